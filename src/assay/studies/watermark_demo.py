"""The demonstration of a watermark: a small model learns English, writes with and without the mark, and both are read.

Everything is local: the model learns from the text that every Python carries. The key is drawn at random, lies in a
file that only its owner may read, and is in no record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from ..core.files import make_folder
from ..core.methods import Citation, MethodCard
from ..core.progress import Progress
from ..core.settings import option, settings
from .auditing import Study
from .single import single_run
from .watermarking import Documents, data_of, target_of, write_texts

if TYPE_CHECKING:
    from ..data.texts import TokenDataset
    from ..subjects.language import LanguageModel
    from ..training import TrainSettings
    from ..training.language.causal_lm import CausalLM
    from ..watermark.tokenization import Encoded
    from ..watermark.watermark import Watermark

CORPUS = "python-docs"
MODEL, KEY, MARK = "model", "key", "mark.json"
KINDS = ("marked", "unmarked", "human")
WIDE = ("philox", "gumbel", "unigram")
NOT_TESTED = (
    "Edits: what is left of the mark after substitutions, paraphrase or translation ('assay watermark attack').",
    "Rare errors: as few texts as these say nothing about false positive rates far below 1 % "
    "('assay watermark roc', 'assay watermark calibrate').",
    "A large model: this one is small, and its text is only English-like. Larger models are more certain of the next "
    "word, so a token of theirs carries less of the mark ('assay watermark plan').",
    "Theft and forgery: what marked text tells about the key, and who can write text that is called marked.",
)
CARD = MethodCard(
    name="watermark-demo",
    kind="summary",
    title="Watermark, demonstrated",
    summary="The same prompts continued with and without the mark, and by people; who is called marked, and what the "
    "mark costs in perplexity.",
    settings="Demonstration",
    citation=Citation(
        key="kirchenbauer2023watermark",
        title="A Watermark for Large Language Models",
        authors="Kirchenbauer, John and Geiping, Jonas and Wen, Yuxin and Katz, Jonathan and Miers, Ian and "
        "Goldstein, Tom",
        year=2023,
        venue="International Conference on Machine Learning",
        arxiv="2301.10226",
    ),
)


@settings
class Demonstration:
    """What is written and how it is judged."""

    texts: int = option(default=24, help="prompts, each continued with and without the mark", at_least=1)
    prompt_tokens: int = option(default=24, help="tokens of a prompt", at_least=1)
    new_tokens: int = option(default=200, help="tokens written for a prompt", at_least=2)
    fpr: float = option(default=1e-6, help="share of unmarked texts that may be called marked", above=0, below=1)
    shown: int = option(default=3, help="prompts whose continuations the report shows", at_least=0)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A continuation of a prompt, as everyone who reads the text sees it.

    Args:
        kind: ``"marked"``, ``"unmarked"`` or ``"human"``.
        prompt: number of the prompt.
        written: ids as they were written.
        text: what they read.
        read: the text as tokens again, which is all that a detector has.
    """

    kind: str
    prompt: int
    written: np.ndarray
    text: str
    read: Encoded


def learn(
    out: str | Path,
    *,
    recipe: CausalLM | None = None,
    training: TrainSettings | None = None,
    documents: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LanguageModel:
    """The small model, trained once for each folder; the same call goes on where it was stopped.

    Args:
        out: folder of the demonstration; the model goes to ``out/model``, and transformers loads it from there.
        recipe: size of model and vocabulary.
        training: optimiser and epochs.
        documents: how many are learned from; default: all.
        seed: root of the random streams.
        progress: where to show progress.

    Cost: about a minute on one core.
    """
    from ..subjects.language import load_language_model
    from ..training import train

    recipe, data = material(recipe, documents)
    folder = Path(out) / MODEL
    train(recipe, data=data, settings=training, out=folder, seed=seed, progress=progress)
    return load_language_model(f"run:{folder}")


def material(recipe: CausalLM | None = None, documents: int | None = None) -> tuple[CausalLM, TokenDataset]:
    """The recipe, and what the small model learns from."""
    from ..data.texts import load_texts
    from ..training.language.causal_lm import CausalLM
    from ..training.language.tokens import tokenized

    recipe = recipe or CausalLM()
    return recipe, tokenized(recipe, load_texts(CORPUS, split="train", limit=documents))[0]


def secret(out: str | Path, scheme: str) -> int:
    """The key in ``out/key``; where there is none, one is drawn from the system's randomness and written there.

    Schemes of the official repository and of transformers act on 32 bits of a key, and get one of 32.

    Raises:
        SettingError: the file holds no key. RunError: it cannot be written.
    """
    from ..watermark.keys import new_key, read_key, write_key

    path = make_folder(out) / KEY
    if not path.exists():
        write_key(path, new_key(64 if scheme in WIDE else 32))
    return read_key(path)


def passages_of(lm: LanguageModel, plan: Demonstration) -> tuple[list[list[int]], list[np.ndarray]]:
    """Prompts from documents that the model has not learned from, and how people went on.

    One passage of each document first, then the next one of each, so that few documents give many prompts.

    Raises:
        DataError: there are not enough.
    """
    from ..data.texts import load_texts

    length = plan.prompt_tokens + plan.new_tokens
    documents = [lm.encode(text) for text in load_texts(CORPUS, split="test").texts]
    rounds = max((len(ids) // length for ids in documents), default=0)
    found = [
        ids[turn * length : (turn + 1) * length]
        for turn in range(rounds)
        for ids in documents
        if (turn + 1) * length <= len(ids)
    ][: plan.texts]
    if len(found) < plan.texts:
        raise DataError(
            f"{CORPUS} has {len(found)} passages of {length} tokens, and {plan.texts} texts are asked for. "
            "Ask for fewer, or for shorter ones."
        )
    prompts = [ids[: plan.prompt_tokens] for ids in found]
    return prompts, [np.asarray(ids[plan.prompt_tokens :], dtype=np.int64) for ids in found]


def demonstrate(
    lm: LanguageModel,
    watermark: Watermark,
    plan: Demonstration | None = None,
    *,
    out: str | Path,
    seed: int = 0,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Continue prompts with and without the mark, read both and what people wrote, and write the report.

    The texts are in ``out/texts`` as JSON lines. The same call goes on where it was stopped.

    Args:
        lm: the model, with its tokenizer.
        watermark: the mark, for the width of the model's logits.
        plan: how many texts, how long, and the error rate.
        out: folder of the demonstration.
        seed: root of the random streams.
        progress: where to show progress.
        command: the command line to print in the report.

    Returns:
        The study with its one run.

    Raises:
        DataError, ModelError: the model cannot write that much, or has no tokenizer.
        Incomplete: the work was interrupted; the same call goes on.

    Cost: ``2 * texts * new_tokens`` tokens written, and ``3 * texts * new_tokens`` read once more.
    """
    from ..watermark.scoring import outcome
    from .watermark_demo_view import measure

    plan, progress = plan or Demonstration(), progress or Progress(enabled=False)
    prompts, human = passages_of(lm, plan)
    options: dict[str, Any] = {"out": out, "seed": seed, "progress": progress, "new_tokens": plan.new_tokens}
    written = {
        "marked": write_texts(lm, prompts, watermark, **options),
        "unmarked": write_texts(lm, prompts, None, **options),
        "human": Documents(name=CORPUS, ids=human),
    }
    texts = list(read_again(lm, written))
    ids = [text.read.ids for text in texts]
    return single_run(
        CARD,
        plan,
        lambda _, shown: measure(lm, watermark, plan, prompts, texts, seed, shown),
        target={**target_of(watermark.settings, outcome(watermark, ids)), "model": lm.describe()},
        data=data_of(f"prompts from {CORPUS}", ids),
        out=out,
        seed=seed,
        progress=progress,
        command=command,
        not_tested=NOT_TESTED,
    )


def read_again(lm: LanguageModel, written: dict[str, Documents]) -> Iterator[Text]:
    """The texts as readers see them: ids become text, and the text becomes ids."""
    from ..watermark.tokenization import Tokenizer

    tokenizer = Tokenizer(lm.tokenizer, lm.name)
    for kind in KINDS:
        texts = [lm.decode(ids.tolist()) for ids in written[kind].ids]
        for number, (ids, text, read) in enumerate(
            zip(written[kind].ids, texts, tokenizer.encode_many(texts), strict=True)
        ):
            yield Text(kind=kind, prompt=number, written=ids, text=text, read=read)
