"""Watermark studies: how well marked text is found, what edits leave of it, and whether the null holds.

Each is one run, resumable, and a report. The key of a mark is in no record: runs of different keys are told apart by
a digest of what is detected in their documents.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, Incomplete
from ..core.files import make_folder, write_atomic
from ..core.probes import Measurement
from ..core.progress import Progress
from ..core.settings import as_dict
from ..core.shards import Shards
from ..watermark import attacked, null, rates
from ..watermark.scoring import digest, outcome
from .single import single_run

if TYPE_CHECKING:
    from ..core.shards import Shards as Store
    from ..subjects.language import LanguageModel
    from ..watermark.edits.base import Tokenizer
    from ..watermark.settings import WatermarkSettings
    from ..watermark.watermark import Watermark
    from .auditing import Study

NOT_TESTED = (
    "Paraphrase by people or by another model, and translation there and back.",
    "Forgery: whether somebody without the key can write text that is called marked.",
    "Theft: what marked text tells about the key or the green lists.",
    "What the mark costs in quality.",
    "Text of other kinds, lengths and languages, and other models.",
)
_PROBES, _PROBE_LENGTH = 8, 64


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents as token ids.

    Args:
        name: what they are called in the report.
        ids: int64 [n] each.
        names: one a document; default: their numbers.
    """

    name: str
    ids: Sequence[np.ndarray]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def called(self) -> list[str]:
        """A name for every document."""
        return [str(name) for name in self.names] or [str(number) for number in range(len(self.ids))]

    def checked(self, vocab_size: int) -> Documents:
        """The documents, of which there must be one, with ids in 0..vocab_size-1."""
        if not len(self.ids):
            raise DataError(f"There is no document in {self.name!r}; at least one is needed.")
        for place, ids in enumerate(self.ids):
            wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
            if len(wrong):
                where = f"position {wrong[0]} of the document {self.called()[place]!r}"
                raise DataError(
                    f"Id {ids[wrong[0]]} at {where} is outside the vocabulary of the mark, 0..{vocab_size - 1}: it "
                    "comes from another tokenizer, or the vocabulary size is wrong."
                )
        return self


def study_rates(
    watermark: Watermark,
    marked: Documents,
    unmarked: Documents,
    settings: rates.WatermarkRates | None = None,
    *,
    out: str | Path,
    seed: int = 0,
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """ROC of a mark: area, rates at stated and measured error rates, plain and by windows, and a report.

    Args:
        watermark: the mark, with its key.
        marked: documents that carry it.
        unmarked: documents that do not; for a measured false positive rate of 1e-3 at least 1,000.
        settings: what is measured.
        out: folder of the study.
        seed: root of the random streams.
        claims: such as ``"true_positive_rate@p:0.001 >= 0.9"``.
        progress: where to show progress.
        command: the command line to print in the report.

    Returns:
        The study with its one run.

    Raises:
        DataError: there is no document, or ids are outside the vocabulary.
        Incomplete: the work was interrupted; the same call goes on.
        RunError: ``out`` cannot be written.
    """
    settings = settings or rates.WatermarkRates()
    size = watermark.settings.vocab_size
    both = [*marked.checked(size).ids, *unmarked.checked(size).ids]

    def measure(shards: Store, shown: Progress) -> Measurement:
        return settings.measure(
            rates.Texts(
                watermark=watermark,
                marked=marked.ids,
                unmarked=unmarked.ids,
                names=[*marked.called(), *unmarked.called()],
                seed=seed,
                shards=shards,
                progress=shown,
            )
        )

    return single_run(
        rates.CARD,
        settings,
        measure,
        target=target_of(watermark.settings, outcome(watermark, both)),
        data=data_of(f"{marked.name} and {unmarked.name}", both, len(marked)),
        out=out,
        seed=seed,
        claims=claims,
        progress=progress,
        command=command,
        not_tested=NOT_TESTED,
    )


def study_attack(
    watermark: Watermark,
    marked: Documents,
    settings: attacked.WatermarkAttack | None = None,
    *,
    human: Documents | None = None,
    tokenizer: Tokenizer | None = None,
    out: str | Path,
    seed: int = 0,
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """What is left of a mark after edits, plain and by windows, and a report.

    Args:
        watermark: the mark, with its key.
        marked: documents that carry it.
        settings: edits and error rates; default: all edits for which there is what they need.
        human: unmarked documents, for copy-paste.
        tokenizer: for edits of text.
        out, seed, claims, progress, command: as for :func:`study_rates`.

    Raises:
        SettingError: an edit lacks what it needs; else as :func:`study_rates`.
    """
    if settings is None:
        edits = attacked.usual_edits(human=human is not None, tokenizer=tokenizer is not None)
        settings = attacked.WatermarkAttack(edits=edits)
    size = watermark.settings.vocab_size
    marked.checked(size)
    pool = list(human.checked(size).ids) if human is not None else []
    attacked.refuse_without_means(settings, human=bool(pool), tokenizer=tokenizer is not None)

    def measure(shards: Store, shown: Progress) -> Measurement:
        return settings.measure(
            attacked.Victims(
                watermark=watermark,
                marked=marked.ids,
                human=pool,
                tokenizer=tokenizer,
                names=marked.called(),
                seed=seed,
                shards=shards,
                progress=shown,
            )
        )

    used = digest(pool, str(getattr(tokenizer, "digest", getattr(tokenizer, "name", ""))))
    return single_run(
        attacked.CARD,
        settings,
        measure,
        target=target_of(watermark.settings, outcome(watermark, marked.ids)),
        data=data_of(marked.name, marked.ids, used),
        out=out,
        seed=seed,
        claims=claims,
        progress=progress,
        command=command,
        not_tested=NOT_TESTED,
    )


def study_null(
    settings_of_mark: WatermarkSettings,
    documents: Documents,
    settings: null.WatermarkNull | None = None,
    *,
    out: str | Path,
    seed: int = 0,
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Whether p-values of a mark mean what they say on text of people, under random keys, and a report.

    Args:
        settings_of_mark: of the mark; no key is needed.
        documents: without the mark.
        settings: keys, error rates, windows.
        out, seed, claims, progress, command: as for :func:`study_rates`.

    Raises:
        As :func:`study_rates`.
    """
    settings = settings or null.WatermarkNull()
    documents.checked(settings_of_mark.vocab_size)

    def measure(shards: Store, shown: Progress) -> Measurement:
        return settings.measure(
            null.HumanTexts(
                settings=settings_of_mark,
                documents=documents.ids,
                names=documents.called(),
                seed=seed,
                shards=shards,
                progress=shown,
            )
        )

    return single_run(
        null.CARD,
        settings,
        measure,
        target=target_of(settings_of_mark, "random keys"),
        data=data_of(documents.name, documents.ids),
        out=out,
        seed=seed,
        claims=claims,
        progress=progress,
        command=command,
        not_tested=NOT_TESTED,
    )


def write_texts(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    watermark: Watermark | None,
    *,
    out: str | Path,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
    **decoding: Any,
) -> Documents:
    """Continue prompts, marked or not, in batches that survive an interruption; also as JSON lines in ``out/texts``.

    Args:
        lm: the model.
        prompts: ids of each.
        watermark: the mark, or None for unmarked text.
        out: folder of the study.
        seed: root of the random streams; marked and unmarked texts have streams of their own.
        batch_size: prompts at once; the texts do not depend on it.
        progress: where to show progress.
        decoding: further arguments of :func:`assay.watermark.generation.generate`.

    Raises:
        Incomplete: the work was interrupted; the same call goes on.
    """
    from ..watermark.generation import generate

    kind = "unmarked" if watermark is None else "marked"
    streams = [f"{kind}/{name}" for name in _streams(prompts)]
    identity = digest(
        [np.asarray(prompt, dtype=np.int64) for prompt in prompts],
        lm.digest,
        sorted(decoding.items()),
        seed,
        kind,
        "" if watermark is None else f"{watermark.settings.fingerprint}/{outcome(watermark, _probes(watermark))}",
    )
    shards = Shards(Path(out) / "texts" / f"{kind}-{identity[:12]}")
    progress = progress or Progress(enabled=False)
    found: list[np.ndarray] = []
    try:
        with progress.task(f"Writing {kind} texts", total=len(prompts)) as task:
            for prompt, stream in zip(_batches(prompts, batch_size), _batches(streams, batch_size), strict=True):
                found += _batch(shards, lm, prompt, stream, watermark, generate, seed, decoding)
                task.advance(len(prompt))
    except KeyboardInterrupt:
        raise Incomplete(f"Stopped; the texts so far are kept in {out}. Run the same command to go on.") from None
    names = tuple(f"{kind}-{number}" for number in range(len(found)))
    rows = [
        {"id": name, "ids": ids.tolist(), **({"text": lm.decode(ids.tolist())} if lm.tokenizer is not None else {})}
        for name, ids in zip(names, found, strict=True)
    ]
    path = make_folder(Path(out) / "texts") / f"{kind}.jsonl"
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return Documents(name=f"{kind} text of {lm.name}", ids=found, names=names)


def _batch(
    shards: Shards,
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    streams: Sequence[str],
    watermark: Watermark | None,
    generate: Callable[..., list[list[int]]],
    seed: int,
    decoding: Mapping[str, Any],
) -> list[np.ndarray]:
    """The texts of some prompts; what is there already is taken, whatever batch it was made in."""
    keys = [hashlib.blake2b(stream.encode(), digest_size=12).hexdigest() for stream in streams]
    new = [place for place, key in enumerate(keys) if key not in shards]
    if new:
        texts = generate(
            lm,
            [list(prompts[place]) for place in new],
            watermark,
            seed=seed,
            names=[streams[place] for place in new],
            batch_size=len(new),
            **decoding,
        )
        for place, text in zip(new, texts, strict=True):
            shards.put(keys[place], ids=np.asarray(text, dtype=np.int64))
    return [shards.get(key)["ids"] for key in keys]


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _streams(prompts: Sequence[Sequence[int]]) -> list[str]:
    """A name for the random stream of every prompt: its content, and how often it came before."""
    seen: Counter[str] = Counter()
    names = []
    for prompt in prompts:
        content = digest([np.asarray(prompt, dtype=np.int64)])
        names.append(f"{content}/{seen[content]}")
        seen[content] += 1
    return names


def _probes(watermark: Watermark) -> list[np.ndarray]:
    """Fixed random ids, on which keys are told apart."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, watermark.settings.vocab_size, size=_PROBE_LENGTH) for _ in range(_PROBES)]


def target_of(settings: WatermarkSettings, told_apart: str) -> dict[str, Any]:
    """The mark as a record describes it: everything but the key."""
    strength = "hard" if settings.hard else f"delta {settings.delta:g}"
    about = "" if settings.recipe.family == "gumbel" else f", gamma {settings.gamma:g}, {strength}"
    return {
        "name": f"{settings.scheme} watermark{about}",
        "digest": hashlib.blake2b(f"{settings.fingerprint}/{told_apart}".encode(), digest_size=16).hexdigest(),
        "task": "watermark detection",
        "mark": {**as_dict(settings), "fingerprint": settings.fingerprint},
    }


def data_of(name: str, documents: Sequence[np.ndarray], *others: object) -> dict[str, Any]:
    """Texts as a record describes them: how many, how long, and their digest."""
    lengths = [len(ids) for ids in documents]
    return {
        "name": name,
        "n": len(documents),
        "tokens": int(sum(lengths)),
        "shortest": min(lengths),
        "longest": max(lengths),
        "digest": digest(documents, *others),
    }
