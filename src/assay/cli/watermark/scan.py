"""Find marked passages in a large corpus.

The corpus is made of .txt and .jsonl files, folders of them and patterns such as 'corpus/*.jsonl'. Windows of a few
sizes are tested all over it, for every mark, and p-values are corrected for the number of all windows of the corpus
(Bonferroni): --fpr is the chance that a corpus without the mark yields a single passage.

examples:
  assay watermark scan --mark mark.json --key-file key --tokenizer hf:MODEL corpus --out passages.jsonl
  assay watermark scan --mark mark.json --key-file key --ids tokens.jsonl --dry-run

With --out, a stopped scan goes on where it was. What is found so far is kept in FILE.part, and FILE is written at the
end, when the number of windows is known: a line a passage with its place in document, tokens and characters, a line
for what could not be read, and at last a summary.

exit codes: 0 done, 1 --fail-if applies, 2 bad input, be it a single line; the other lines are examined all the same."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import EXIT_BAD_INPUT, EXIT_CLAIM_FAILED, EXIT_OK, RunError, SettingError
from ...core.files import plain
from ..common import note
from .flags import (
    add_mark_flags,
    add_text_flags,
    add_verdict_flags,
    read_documents,
    read_marks,
    read_normaliser,
    read_tokenizers,
    window_sizes,
)
from .passages import conclude
from .results import STANDARD_OUTPUT, Results, announce, identity
from .speed import Speed
from .texts import Reader, blocks
from .wording import count, duration, other_generators, short

if TYPE_CHECKING:
    from ...watermark.documents import BadLine, Document
    from ...watermark.marks import NamedMark

FPR = 1e-3
EXCERPT = 80
PIECE = 200_000
_LETTERS = 8  # characters a token: what pieces of a text overlap by, so that no window is cut


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark scan``."""
    add_text_flags(parser)
    add_mark_flags(parser)
    group = parser.add_argument_group("search")
    add_verdict_flags(group, FPR, "chance that an unmarked corpus yields any passage (default: 0.001)")
    group.add_argument(
        "--window-sizes",
        type=window_sizes,
        default="25,50,100,200,400,800",
        metavar="SIZES",
        help="tokens of the windows (default: 25,50,100,200,400,800)",
    )
    group.add_argument("--fail-if", choices=("marked",), help="exit code 1 if a passage is found")
    group = parser.add_argument_group("output")
    group.add_argument("--out", metavar="FILE", help="passages as JSON lines; a stopped scan goes on; - prints them")
    group.add_argument("--dry-run", action="store_true", help="tell how much there is and what it would take, and stop")
    group.add_argument("--no-progress", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Search the corpus."""
    from ...watermark.documents import list_files

    marks = read_marks(arguments)
    sizes = _sizes(arguments.window_sizes)
    overlap = 2 * sizes[-1] if arguments.ids else _LETTERS * sizes[-1]
    documents = read_documents(arguments, piece=max(PIECE, 4 * overlap), overlap=overlap)
    reader = Reader(marks, read_tokenizers(marks, ids=arguments.ids), read_normaliser(arguments), ids=arguments.ids)
    total = _bytes(list_files(arguments.texts))
    if arguments.dry_run:
        return _estimate(arguments, marks, reader, documents, sizes, total)
    request = {
        "marks": [mark.identity for mark in marks],
        "tokenizers": reader.digests,
        "sizes": sizes,
        **{name: getattr(arguments, name) for name in ("ids", "field", "id_field", "normalise", "fpr")},
    }
    out = arguments.out
    into_file = out not in (None, STANDARD_OUTPUT)
    if into_file and os.path.exists(out):
        raise SettingError(f"{out!r} is there: that scan is finished. Choose another file, or move it away.")
    with contextlib.ExitStack() as stack:
        folder = "" if into_file else stack.enter_context(tempfile.TemporaryDirectory())
        journal = f"{out}.part" if into_file else os.path.join(folder, "scan.part")
        results = stack.enter_context(Results(journal, identity(request), "scanned texts"))
        announce(results)
        search = _Search(arguments, marks, reader, sizes, results)
        with Speed(total, enabled=not arguments.no_progress) as speed:
            for block in blocks(documents):
                search.examine(block)
                speed.show(sum(getattr(item, "size", 0) for item in block), search.tokens)
        search.nothing_left()
        kept = conclude(results, out, fpr=arguments.fpr, counts=search.counts, several=len(marks) > 1)
        if speed.tokens:
            note(speed.words())
        os.unlink(journal)
    if not kept and (remark := other_generators(marks)):
        note(remark)
    if arguments.fail_if == "marked" and kept:
        return EXIT_CLAIM_FAILED
    return EXIT_BAD_INPUT if search.counts["bad"] else EXIT_OK


class _Search:
    """Candidates and counts while the corpus passes by."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        marks: Sequence[NamedMark],
        reader: Reader,
        sizes: Sequence[int],
        results: Results,
    ) -> None:
        self.arguments, self.marks, self.reader, self.sizes, self.results = arguments, marks, reader, sizes, results
        self.counts = {"texts": 0, "tokens": 0, "windows": 0, "bad": 0}

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return self.counts["tokens"]

    def examine(self, block: Sequence[Document | BadLine]) -> None:
        """A block of the corpus: from the journal if it is there, else from the texts."""
        record = self.results.old()
        last = plain([block[-1].source, block[-1].line, len(block)])
        if record is None:
            record = {"last": last, **self._scanned(block)}
            self.results.write([record])
        elif record.get("last") != last:
            raise RunError(
                f"The corpus has changed since {self.results.path!r} was begun (at {last[0]!r}). "
                "Remove that file to begin anew."
            )
        for name in ("texts", "tokens", "windows"):
            self.counts[name] += record[name]
        self.counts["bad"] += len(record["bad"])

    def nothing_left(self) -> None:
        """What the journal holds belongs to texts that were read."""
        if self.results.old() is not None:
            raise RunError(
                f"{self.results.path!r} knows more texts than the corpus has. Remove that file to begin anew."
            )

    def _scanned(self, block: Sequence[Document | BadLine]) -> dict[str, Any]:
        from ...watermark.documents import Document
        from ...watermark.judging import outside
        from ...watermark.scanning import scan

        documents = [item for item in block if isinstance(item, Document)]
        bad = [_bad(item.source, item.line, item.reason) for item in block if not isinstance(item, Document)]
        texts, encoded = self.reader.read(documents)
        found: list[tuple[int, dict[str, Any]]] = []
        wrong: dict[int, str] = {}
        tokens = windows = 0
        for mark in self.marks:
            size = mark.watermark.settings.vocab_size
            reasons = [outside(row[mark.name].ids, size) for row in encoded]
            wrong.update({number: reason for number, reason in enumerate(reasons) if reason})
            chosen = [number for number, reason in enumerate(reasons) if not reason]
            ids = [encoded[number][mark.name].ids for number in chosen]
            scanned = scan(mark.watermark.scheme, ids, fpr=self.arguments.fpr, sizes=self.sizes)
            windows += sum(one.windows for one in scanned)
            tokens += sum(one.tokens for one in scanned) if mark is self.marks[0] else 0
            for number, one in zip(chosen, scanned, strict=True):
                for passage in one.passages:
                    tokens_of = encoded[number][mark.name]
                    found.append((number, _candidate(documents[number], texts[number], tokens_of, mark.name, passage)))
        for number, reason in sorted(wrong.items()):
            bad.append(_bad(documents[number].source, documents[number].line, reason))
        starting = sum(document.part == 0 for document in documents)
        in_order = [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])]
        return {"texts": starting, "tokens": tokens, "windows": windows, "found": in_order, "bad": bad}


def _sizes(text: str) -> list[int]:
    if not text[0].isdigit():
        raise SettingError(f"--window-sizes is {text!r}; for a corpus, numbers are needed, such as 50,200.")
    sizes = sorted({int(part) for part in text.split(",")})
    if sizes[-1] > 20_000:
        raise SettingError(f"--window-sizes has {sizes[-1]:,}; at most 20,000 tokens are allowed.")
    return sizes


def _bytes(files: Sequence[str]) -> int | None:
    """Bytes of all files; None if a pipe or a compressed file is among them."""
    if any(not os.path.isfile(path) or path.endswith(".gz") for path in files):
        return None
    return sum(os.path.getsize(path) for path in files)


def _estimate(
    arguments: argparse.Namespace,
    marks: Sequence[NamedMark],
    reader: Reader,
    documents: Iterator[Document | BadLine],
    sizes: Sequence[int],
    total: int | None,
) -> int:
    """Read the first block, and tell what the whole would take."""
    from ...watermark.documents import list_files
    from ...watermark.statistics import critical_count

    search = _Search(arguments, marks, reader, sizes, Results(None, "", ""))
    began = time.monotonic()
    block: Sequence[Document | BadLine] = next(blocks(documents), [])
    if block:
        search.examine(block)
    seconds = time.monotonic() - began
    read = sum(getattr(item, "size", 0) for item in block)
    files = len(list_files(arguments.texts))
    if total is None or not read or not search.tokens:
        print(f"{count(files, 'file')}; their size in tokens cannot be told beforehand.")
        return EXIT_OK
    factor = max(1.0, total / read)
    windows = max(1, round(search.counts["windows"] * factor))
    tokens = short(search.tokens * factor)
    print(f"{count(files, 'file')}, {total:,} bytes; about {tokens} tokens and {short(windows)} windows.")
    print(f"About {duration(seconds * factor)} on this computer, judged by the first {read:,} bytes.")
    for mark in marks:
        gamma = float(mark.watermark.scheme.gamma)
        needed = [(size, int(critical_count(size, gamma, arguments.fpr / windows))) for size in sizes]
        able = [f"{least} of {size}" for size, least in needed if least <= size]
        shown = ", ".join(able) or "none of these window sizes is long enough"
        print(f"To be found with the mark {mark.name!r}, a window needs this many green tokens: {shown}.")
    return EXIT_OK


def _bad(source: str, line: int | None, reason: str) -> dict[str, Any]:
    return {"source": source, "line": line, "error": reason}


def _candidate(document: Document, text: str | None, tokens: Any, mark: str, passage: Any) -> dict[str, Any]:
    place = tokens.characters(passage.start, passage.end)
    record: dict[str, Any] = {"source": document.source, "line": document.line, "id": document.id, "mark": mark}
    shift = document.start if text is None else 0
    record |= {"start": passage.start + shift, "end": passage.end + shift}
    if document.part or not document.last:
        record["piece"] = document.part + 1
    record["characters"] = None if place is None else [document.start + place[0], document.start + place[1]]
    if place is not None and text is not None:
        record["begins"] = text[place[0] : place[1]][:EXCERPT]
    record |= {"green": passage.green, "scored": passage.scored, "z": passage.z, "log10_tail": passage.log10_tail}
    return record
