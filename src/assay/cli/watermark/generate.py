"""Continue prompts with a model whose output carries the mark.

Prompts come from --prompt, from .jsonl files (one a line: {"id": ..., "prompt": ...}), or from .txt files (one each).
The mark is described by flags or by a mark file. --mark-out writes its settings, without the key, for 'detect'.

examples:
  assay watermark generate --model hf:MODEL --new-key key --mark-out mark.json --prompt "Once upon a time"
  assay watermark generate --model hf:MODEL --key-file key --mark mark.json prompts.jsonl --out answers.jsonl
  assay watermark detect --mark mark.json --key-file key --tokenizer hf:MODEL answers.jsonl

A prompt's text depends on the prompt, the settings and --seed, not on the others beside it. With --out, a stopped
command goes on where it was.

exit codes: 0 done, 2 bad input, be it a single line; the other prompts are continued all the same."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import EXIT_BAD_INPUT, EXIT_OK, DataError, RunError, SettingError
from ...core.progress import Progress
from ..common import note, positive, seed_number, whole
from .flags import add_mark_flags, named, natural, read_mark, share
from .results import Results, announce, belongs, identity
from .wording import count, place_of

if TYPE_CHECKING:
    from ...subjects.language import LanguageModel
    from ...watermark.documents import BadLine, Document
    from ...watermark.marks import NamedMark
    from ...watermark.tokenization import Tokenizer


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark generate``."""
    parser.add_argument("prompts", nargs="*", metavar="FILE", help="prompts: .jsonl, .txt, a folder of them, or -")
    group = parser.add_argument_group("model and prompts")
    group.add_argument(
        "--model", required=True, metavar="MODEL", help="hf:FOLDER, or the folder of 'assay train causal-lm'"
    )
    group.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt; may be repeated")
    group.add_argument("--ids", action="store_true", help="the lines hold token ids ('ids')")
    group.add_argument(
        "--field", metavar="NAME", help="field of a line with the prompt (default: prompt; ids with --ids)"
    )
    group.add_argument("--id-field", metavar="NAME", default="id", help="field with a prompt's name (default: id)")
    add_mark_flags(parser, several=False)
    group = parser.add_argument_group("more about the mark")
    group.add_argument("--new-key", metavar="FILE", help="make a key in this file; if it is there, use it")
    group.add_argument("--mark-out", metavar="FILE", help="write the settings of the mark, without the key")
    group.add_argument("--unmarked", action="store_true", help="write text without a mark, for comparison")
    group = parser.add_argument_group("text")
    group.add_argument("--new-tokens", type=whole, default=200, metavar="T", help="tokens a text (default: 200)")
    group.add_argument("--until-end", action="store_true", help="a text may end before, where the model ends it")
    group.add_argument(
        "--decoding",
        choices=("multinomial", "greedy", "beam"),
        default="multinomial",
        help="draw tokens, take the likeliest, or search by beams (default: multinomial)",
    )
    group.add_argument("--temperature", type=positive, default=1.0, metavar="X", help="of the draws (default: 1)")
    group.add_argument("--top-k", type=natural, default=0, metavar="K", help="draw from the K likeliest; 0: from all")
    group.add_argument("--top-p", type=share, metavar="P", help="draw from the likeliest tokens with this mass")
    group.add_argument("--beams", type=whole, default=8, metavar="N", help="beams of a search (default: 8)")
    group.add_argument("--seed", type=seed_number, default=0, metavar="N", help="seed of the draws (default: 0)")
    group = parser.add_argument_group("work")
    group.add_argument("--batch-size", type=whole, default=16, metavar="N", help="prompts at once (default: 16)")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cpu)")
    group.add_argument("--out", metavar="FILE", help="texts as JSON lines; a stopped command goes on; - prints them")
    group.add_argument("--no-progress", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Write the texts."""
    from ...subjects.language import load_language_model
    from ...watermark.documents import STANDARD_INPUT, list_files

    if not arguments.prompts and not arguments.prompt:
        raise SettingError("There is nothing to continue. Give --prompt TEXT, or a file with prompts.")
    if arguments.prompt and arguments.ids:
        raise SettingError("--prompt is text, and --ids says that prompts are token ids. Leave one out.")
    if arguments.prompts.count(STANDARD_INPUT) > 1:
        raise SettingError("Standard input, -, can be read once only.")
    list_files(arguments.prompts)
    _check_mark_flags(arguments)
    try:
        lm = load_language_model(arguments.model, device=arguments.device)
    except (RuntimeError, AssertionError) as error:  # how torch says that there is no such device
        if arguments.device is None:
            raise
        reason = (str(error).splitlines() or [""])[0][:100]
        raise SettingError(
            f"--device is {arguments.device!r}, which cannot be used here ({reason}). Use cpu."
        ) from None
    if lm.tokenizer is None:
        raise SettingError(f"The model {lm.name!r} has no tokenizer. Save one into its folder.")
    mark = None if arguments.unmarked else read_mark(arguments, lm.vocab_size)
    writer = _Writer(arguments, lm, mark)
    if mark is not None and arguments.mark_out:
        from ...watermark.marks import save

        save(arguments.mark_out, mark.watermark.settings, tokenizer=writer.tokenizer.description)
    elif mark is not None and not arguments.mark:
        note("Detection needs the settings of the mark: --mark-out FILE writes them.")
    with Results(arguments.out, identity(writer.request()), "texts") as results:
        announce(results)
        with Progress(enabled=not arguments.no_progress) as progress, progress.task("prompts") as task:
            for batch in _batches(_prompts(arguments), arguments.batch_size):
                writer.go_on(batch, results)
                task.advance(len(batch))
        if results.old() is not None:
            raise RunError(f"{results.path!r} holds more texts than there are prompts. Choose another file.")
    writer.tell()
    return EXIT_BAD_INPUT if writer.bad else EXIT_OK


class _Writer:
    """Writes texts, and counts what could not be written."""

    def __init__(self, arguments: argparse.Namespace, lm: LanguageModel, mark: NamedMark | None) -> None:
        from ...watermark.tokenization import Tokenizer

        self.arguments, self.lm, self.mark = arguments, lm, mark
        self.tokenizer: Tokenizer = Tokenizer(lm.tokenizer, lm.name)
        self.how = {
            "new_tokens": arguments.new_tokens,
            "decoding": arguments.decoding,
            "temperature": arguments.temperature,
            "top_k": arguments.top_k,
            "top_p": 1.0 if arguments.top_p is None else arguments.top_p,
            "beams": arguments.beams,
            "seed": arguments.seed,
        }
        self.stop = None
        if arguments.until_end:
            if not lm.stops:
                raise SettingError(f"--until-end: the model {lm.name!r} has no id that ends a text. Leave it out.")
            own = getattr(lm.tokenizer, "eos_token_id", None)
            self.stop = own if own in lm.stops else lm.stops[0]
        self.seen: Counter[str] = Counter()
        self.texts = self.bad = 0
        self.back: list[float] = []

    def request(self) -> dict[str, Any]:
        """What makes the texts."""
        return {
            "model": self.lm.digest,
            "mark": None if self.mark is None else self.mark.identity,
            "until_end": self.arguments.until_end,
            **self.how,
        }

    def go_on(self, batch: Sequence[Document | BadLine], results: Results) -> None:
        """A batch of prompts; those whose texts are there are passed over."""
        from ...watermark.documents import Document

        records: list[dict[str, Any]] = []
        waiting: list[tuple[dict[str, Any], list[int], str]] = []
        for item in batch:
            record: dict[str, Any] = {"source": item.source, "line": item.line}
            old = results.old()
            if old is not None and not belongs(old, item.source, item.line):
                raise RunError(
                    f"{results.path!r} holds the text of another prompt at {place_of(record)}: they changed."
                )
            try:
                if not isinstance(item, Document):
                    raise DataError(item.reason)
                record["id"] = item.id
                ids = self._ids(item)
                name = self._name(ids)
                if old is None:
                    record |= {"prompt": item.text} if item.text is not None else {"prompt_ids": ids}
                    waiting.append((record, ids, name))
            except DataError as error:
                record["error"] = str(error)
                self.bad += 1
                note(f"error: {place_of(record)}: {error}")
            if old is None:
                records.append(record)
            self.texts += "error" not in (record if old is None else old)
        self._write(waiting)
        results.write(records)
        if results.path is None:
            _print(records)

    def _ids(self, item: Document) -> list[int]:
        """Ids of a prompt that the model can go on from."""
        if item.part or not item.last:
            raise DataError("this prompt is longer than a million characters, which no model reads")
        if item.ids is not None:
            ids = self.lm.check_ids(item.ids.tolist(), "the prompt")
        else:
            ids = self.lm.encode(item.text or "", prompt=True)
        if not ids:
            raise DataError("this prompt has no ids; at least one is needed")
        room = None if self.lm.context is None else self.lm.context - self.arguments.new_tokens
        if room is not None and len(ids) > room:
            raise DataError(
                f"this prompt has {len(ids):,} tokens; with {self.arguments.new_tokens:,} new ones the model "
                f"{self.lm.name!r} has room for {max(0, room):,}"
            )
        return ids

    def _name(self, ids: Sequence[int]) -> str:
        """The name of a prompt's random stream: its ids, and how often they came before."""
        digest = hashlib.blake2b(json.dumps([int(i) for i in ids]).encode(), digest_size=16).hexdigest()
        self.seen[digest] += 1
        return f"{digest}/{self.seen[digest] - 1}"

    def _write(self, waiting: Sequence[tuple[dict[str, Any], list[int], str]]) -> None:
        """Complete the records of a batch."""
        from ...watermark.generation import generate
        from ...watermark.tokenization import round_trip

        if not waiting:
            return
        made = generate(
            self.lm,
            [ids for _, ids, _ in waiting],
            None if self.mark is None else self.mark.watermark,
            **self.how,
            batch_size=self.arguments.batch_size,
            names=[name for _, _, name in waiting],
            stop=self.stop,
        )
        for (record, _, _), ids in zip(waiting, made, strict=True):
            back = round_trip(self.tokenizer, ids)
            self.back.append(back)
            record |= {"text": self.lm.decode(ids), "ids": ids, "tokens": len(ids), "round_trip": back}
            record["mark"] = None if self.mark is None else self.mark.watermark.fingerprint

    def tell(self) -> None:
        """How many texts there are, and how many of their ids survive as text."""
        bad = f" {count(self.bad, 'prompt')} could not be used." if self.bad else ""
        note(f"{count(self.texts, 'text')}{f' in {self.arguments.out}' if self.arguments.out else ''}.{bad}")
        if self.back and sum(self.back) / len(self.back) < 0.9:
            lost = 1 - sum(self.back) / len(self.back)
            note(
                f"{lost:.0%} of the ids change when text is read again; detection from ids is stronger than from text."
            )


def _check_mark_flags(arguments: argparse.Namespace) -> None:
    """What can be told before a model is loaded; a new key is made here."""
    marked = ("mark", "key_file", "public_key", "new_key", "mark_out", "scheme")
    if arguments.unmarked:
        given = [name for name in marked if getattr(arguments, name)]
        if given:
            raise SettingError(f"--unmarked and --{given[0].replace('_', '-')} contradict each other. Leave one out.")
        return
    if arguments.new_key and (arguments.key_file or arguments.public_key):
        raise SettingError("--new-key is given beside another key. Leave one out.")
    for flag in ("mark", "key_file"):
        if len(getattr(arguments, flag) or []) > 1:
            raise SettingError(f"--{flag.replace('_', '-')} is given twice; a text carries one mark.")
    if arguments.new_key:
        from ...watermark.keys import new_key, read_key, write_key

        if os.path.lexists(arguments.new_key):
            read_key(arguments.new_key)
            note(f"{arguments.new_key!r} is there, and its key is used.")
        else:
            write_key(arguments.new_key, new_key(_bits(arguments)))
            note(f"A new key is in {arguments.new_key!r}. Keep it: without it nothing can be detected.")
        arguments.key_file = [arguments.new_key]
    elif arguments.key_file:
        from ...watermark.keys import read_key

        read_key(named(arguments.key_file, "--key-file")[0][1])


def _bits(arguments: argparse.Namespace) -> int:
    """How many bits of a key the scheme acts on."""
    from ...watermark.marks import load

    scheme = arguments.scheme or "philox"
    if arguments.mark:
        scheme = load(named(arguments.mark, "--mark")[0][1]).settings.scheme
    return {"philox": 64, "gumbel": 64, "unigram": 63}.get(scheme, 32)


def _prompts(arguments: argparse.Namespace) -> Iterator[Document | BadLine]:
    """Those of ``--prompt`` first, then those of the files."""
    from ...watermark.documents import Document, read

    for number, text in enumerate(arguments.prompt or [], 1):
        yield Document("--prompt", number, f"prompt {number}", text=text)
    if arguments.prompts:
        kind = "ids" if arguments.ids else "text"
        field = arguments.field or ("ids" if arguments.ids else "prompt")
        yield from read(arguments.prompts, kind=kind, field=field, id_field=arguments.id_field)


def _batches(items: Iterable[Document | BadLine], size: int) -> Iterator[list[Document | BadLine]]:
    batch: list[Document | BadLine] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _print(records: Sequence[dict[str, Any]]) -> None:
    """Texts for people, prompts first."""
    from ...core.passages import visible

    for record in records:
        if "text" in record:
            prompt = record.get("prompt", "")
            print(f"--- {visible(record['id'])}\n{visible(prompt)}{visible(record['text'])}\n", flush=True)
