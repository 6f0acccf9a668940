"""Tell whether texts carry a mark.

Texts are .txt files (one document each), .jsonl files (one document a line: {"id": ..., "text": ...}, or
{"id": ..., "ids": [...]} with --ids), folders of them, or - for standard input. Give the text alone, without the
prompt it answers.

examples:
  assay watermark detect --mark mark.json --key-file key --tokenizer hf:MODEL essay.txt
  assay watermark detect --mark mark.json --key-file key --ids answers.jsonl --out found.jsonl --fail-if unmarked
  assay watermark detect --mark a=a.json --mark b=b.json --key-file a=key-a --key-file b=key-b --ids answers.jsonl

A p-value is the chance that text without the mark looks at least as marked. Several marks and, with --windows, the
whole text and its best part are corrected for one another (Holm), texts are not: of a million unmarked texts, one is
called marked at the default --fpr of 1e-6. Documents of more than a million characters are judged in pieces.

exit codes: 0 done, 1 --fail-if applies, 2 bad input, be it a single line; the other lines are examined all the same."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import EXIT_BAD_INPUT, EXIT_CLAIM_FAILED, EXIT_OK
from ...core.progress import Progress
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
from .results import STANDARD_OUTPUT, Results, announce, belongs, identity
from .texts import Reader, blocks
from .wording import count, other_generators, p_value, place_of

if TYPE_CHECKING:
    from ...core.passages import Passage
    from ...subjects.language import LanguageModel
    from ...watermark.documents import BadLine, Document
    from ...watermark.judging import Finding
    from ...watermark.marks import NamedMark
    from ...watermark.tokenization import Encoded, Tokenizer

MOST_ROWS, MOST_PASSAGES, MOST_REMARKS = 1000, 100, 20
MOST_TOKENS, BEFORE = 4000, 200


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark detect``."""
    add_text_flags(parser)
    add_mark_flags(parser)
    group = parser.add_argument_group("verdict")
    add_verdict_flags(group)
    group.add_argument("--windows", action="store_true", help="find marked parts of longer texts too")
    group.add_argument(
        "--window-sizes",
        type=window_sizes,
        default="max",
        metavar="SIZES",
        help="tokens of the parts: max (all sizes, default), geometric, or numbers such as 50,200",
    )
    group.add_argument(
        "--model",
        metavar="MODEL",
        help="hf:DIR or run:DIR, the model that may have written the texts: tokens count by the choice it had",
    )
    group.add_argument("--read-payload", action="store_true", help="read the number that the text carries")
    group.add_argument(
        "--fail-if", choices=("marked", "unmarked"), help="exit code 1 if a text is marked, or if one is not"
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", metavar="FILE", help="results as JSON lines; a stopped command goes on where it was; - prints them"
    )
    group.add_argument("--show", action="store_true", help="print the texts with their green tokens underlined")
    group.add_argument("--html", metavar="FILE", help="a page with coloured tokens")
    group.add_argument("--no-progress", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Examine the texts."""
    marks = read_marks(arguments)
    documents = read_documents(arguments)
    reader = Reader(marks, read_tokenizers(marks, ids=arguments.ids), read_normaliser(arguments), ids=arguments.ids)
    request = {
        "marks": [mark.identity for mark in marks],
        "tokenizers": reader.digests,
        **{name: getattr(arguments, name) for name in ("ids", "field", "id_field", "normalise", "fpr")},
        "windows": arguments.window_sizes if arguments.windows else None,
        "payload": arguments.read_payload,
    }
    lm = None
    if arguments.model is not None:
        from ...subjects.language import load_language_model

        lm = load_language_model(arguments.model)
        request["model"] = lm.digest
    with Results(arguments.out, identity(request), "detections") as results:
        announce(results)
        work = _Work(arguments, marks, reader, results, lm)
        with Progress(enabled=not arguments.no_progress) as progress, progress.task("texts") as task:
            for block in blocks(documents):
                work.examine(block)
                task.advance(len(block))
        work.nothing_left()
    work.show()
    return work.exit_code()


class _Work:
    """What is known while the texts pass by; the texts themselves are not kept."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        marks: Sequence[NamedMark],
        reader: Reader,
        results: Results,
        lm: LanguageModel | None,
    ) -> None:
        self.arguments, self.marks, self.reader, self.results, self.lm = arguments, marks, reader, results, lm
        self.wants_text = bool(arguments.show or arguments.html)
        self.verdicts: Counter[str] = Counter()
        self.rows: list[list[str]] = []
        self.passages: dict[bool, list[Passage]] = {True: [], False: []}
        self.bad = self.texts = 0

    def examine(self, block: Sequence[Document | BadLine]) -> None:
        """A block of documents and bad lines, in their order."""
        from ...core.errors import RunError
        from ...watermark.documents import Document

        old = [self.results.old() for _ in block]
        for item, record in zip(block, old, strict=True):
            if record is not None and not belongs(record, item.source, item.line):
                raise RunError(
                    f"{self.results.path!r} holds another text where {item.source!r}, line {item.line}, should be: the "
                    "inputs were changed. Choose another file."
                )
        new = [
            item
            for item, record in zip(block, old, strict=True)
            if isinstance(item, Document) and (record is None or self.wants_text)
        ]
        found = dict(zip(map(id, new), self._judged(new), strict=True))
        records = []
        for item, record in zip(block, old, strict=True):
            if record is None:
                record = found[id(item)] if isinstance(item, Document) else _of_bad(item)
                records.append(record)
            self._note(record)
        self.results.write(records)

    def nothing_left(self) -> None:
        """Results that were there belong to texts that were read."""
        from ...core.errors import RunError

        if self.results.old() is not None:
            raise RunError(
                f"{self.results.path!r} holds results of more texts than were read: the inputs were changed. "
                "Choose another file."
            )

    def _judged(self, documents: Sequence[Document]) -> list[dict[str, Any]]:
        from ...watermark.judging import judge

        if not documents:
            return []
        texts, encoded = self.reader.read(documents)
        table = judge(
            self.marks,
            [{name: tokens.ids for name, tokens in row.items()} for row in encoded],
            fpr=self.arguments.fpr,
            windows=self.arguments.window_sizes if self.arguments.windows else None,
            payload=self.arguments.read_payload,
            lm=self.lm,
        )
        records = []
        for document, text, tokens, findings in zip(documents, texts, encoded, table, strict=True):
            records.append(_record(document, tokens, findings, self.arguments.fpr / self._tried))
            if self.wants_text:
                self._keep(document, text, tokens, findings)
        return records

    @property
    def _tried(self) -> int:
        return len(self.marks) * (2 if self.arguments.windows else 1)

    def _keep(
        self, document: Document, text: str | None, tokens: dict[str, Encoded], findings: Sequence[Finding]
    ) -> None:
        """The text with a mark on every token, for --show and --html."""
        from ...watermark.judging import MARKED, best

        found = best(findings)
        kept = self.passages[found.verdict == MARKED]
        if found.detection is None or len(kept) >= MOST_PASSAGES:
            return
        several = f", mark {found.mark}" if len(self.marks) > 1 else ""
        shown = f"{document.label}: {found.verdict}, {_figures(found)}{several}"
        kept.append(_passage(found, text, tokens[found.mark], self.reader.tokenizers.get(found.mark), shown))

    def _note(self, record: dict[str, Any]) -> None:
        """Count a record, and keep its row for the table."""
        self.texts += 1
        if "error" in record:
            self.bad += 1
            if self.bad <= MOST_REMARKS:
                note(f"error: {place_of(record)}: {record['error']}")
            elif self.bad == MOST_REMARKS + 1:
                note("error: more lines cannot be read; they are counted, and with --out named.")
            return
        self.verdicts[record["verdict"]] += 1
        if len(self.rows) < MOST_ROWS:
            self.rows.append(_row(record, several=len(self.marks) > 1))

    def show(self) -> None:
        """Table, texts and page, as wanted."""
        from ..output import table

        out = self.arguments.out
        if out is None and self.rows:
            heads = ["text", "tokens", "green", "z", "p-value", "verdict", *(["mark"] if len(self.marks) > 1 else [])]
            heads += ["found in tokens"] if self.arguments.windows else []
            heads += ["payload"] if self.arguments.read_payload else []
            rows = [row[: len(heads)] for row in self.rows]
            table("", heads, rows, right=[1, 2, 3, 4])
            if sum(self.verdicts.values()) > len(rows):
                note(
                    f"The first {len(rows):,} of {sum(self.verdicts.values()):,} texts are shown; --out FILE keeps all."
                )
        if self.arguments.show:
            self._print_texts()
        if self.arguments.html:
            self._write_page()
        counts = [f"{self.verdicts[name]:,} {name}" for name in ("marked", "not marked", "not enough tokens")]
        summary = f"{count(self.texts - self.bad, 'text')}: {', '.join(counts)}."
        if self.bad:
            summary += f" {self.bad:,} could not be read."
        (note if out == STANDARD_OUTPUT else print)(summary)
        if self.verdicts["not marked"] and (remark := other_generators(self.marks)):
            note(remark)

    def _print_texts(self) -> None:
        import os
        import sys

        from ...core.passages import ansi, ansi_legend, visible

        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        for kept in (*self.passages[True], *self.passages[False]):
            print(f"\n{visible(kept.caption)}\n{ansi(kept, colour=colour)}")
        print(f"\n{ansi_legend(colour=colour)}\n")

    def _write_page(self) -> None:
        from ...core.passages import Passages
        from ...report.passages import write_passages

        rows = (*self.passages[True], *self.passages[False])
        caption = f"Marked texts come first; at most {MOST_PASSAGES} of each kind are shown."
        write_passages(self.arguments.html, Passages(title="Watermark detection", caption=caption, rows=rows))
        note(f"Page: {self.arguments.html}")

    def exit_code(self) -> int:
        """0, 1 if --fail-if applies, 2 if a line could not be read."""
        marked, others = self.verdicts["marked"], self.verdicts["not marked"] + self.verdicts["not enough tokens"]
        if (self.arguments.fail_if == "marked" and marked) or (self.arguments.fail_if == "unmarked" and others):
            return EXIT_CLAIM_FAILED
        return EXIT_BAD_INPUT if self.bad else EXIT_OK


def _of_bad(bad: Any) -> dict[str, Any]:
    return {"source": bad.source, "line": bad.line, "error": bad.reason}


def _record(document: Document, tokens: dict[str, Encoded], findings: Sequence[Finding], fpr: float) -> dict[str, Any]:
    """A line of the output: what the mark with the smallest p-value says, and every mark if there are several."""
    from ...watermark.judging import best

    found = best(findings)
    record: dict[str, Any] = {"source": document.source, "line": document.line, "id": document.id}
    if document.part or not document.last:
        record |= {"piece": document.part + 1, "start": document.start}
    if found.detection is None:
        return record | {"error": found.error}
    record |= _of_finding(found, tokens[found.mark], document.start, fpr)
    if len(findings) > 1:
        record["marks"] = [
            {"mark": one.mark, "error": one.error}
            if one.detection is None
            else _of_finding(one, tokens[one.mark], document.start, fpr)
            for one in findings
        ]
    return record


def _of_finding(found: Finding, tokens: Encoded, start: int, fpr: float) -> dict[str, Any]:
    detection = found.detection
    assert detection is not None
    record = {
        "mark": found.mark,
        "verdict": found.verdict,
        "p_value": 10.0**found.log10_p,
        "log10_p": found.log10_p,
        "z": detection.z,
        "p_value_normal": detection.p_value_normal,
        "green": detection.green,
        "scored": detection.scored,
        "green_fraction": detection.green_fraction,
        "tokens": len(tokens.ids),
        "spans": [_of_span(span, tokens, start) for span in found.spans],
    }
    if detection.payload is not None:
        record["payload"] = detection.payload
    if found.verdict == "not enough tokens":
        record["tokens_needed"] = _whole(detection.tokens_needed(fpr))
    return record


def _whole(value: float) -> int | None:
    return round(value) if value < 1e12 else None


def _of_span(span: Any, tokens: Encoded, start: int) -> dict[str, Any]:
    place = tokens.characters(span.start, span.end)
    return {
        "start": span.start,
        "end": span.end,
        "characters": None if place is None else [start + place[0], start + place[1]],
        "z": span.z,
        "log10_p": span.log10_p,
    }


def _passage(found: Finding, text: str | None, tokens: Encoded, tokenizer: Tokenizer | None, caption: str) -> Passage:
    """A text with a mark on every token; of a long one, what is around its strongest part."""
    from ...core.passages import Passage
    from ...watermark.colouring import token_marks

    assert found.detection is not None
    strongest = min(found.spans, key=lambda span: span.log10_p, default=None)
    begin = 0
    if len(tokens.ids) > MOST_TOKENS and strongest is not None:
        begin = max(0, min(strongest.start - BEFORE, len(tokens.ids) - MOST_TOKENS))
    part = slice(begin, begin + MOST_TOKENS)
    pieces = None if text is None else tokens.pieces(text)
    if pieces is not None:
        shown = pieces[part]
    else:
        shown = tokenizer.tokens(tokens.ids[part]) if tokenizer else [f"{i} " for i in tokens.ids[part]]
    if len(shown) < len(tokens.ids):
        caption += f" (tokens {begin:,} to {begin + len(shown):,} of {len(tokens.ids):,})"
    span = None
    if strongest is not None:
        ends = max(0, strongest.start - begin), min(len(shown), strongest.end - begin)
        span = ends if ends[0] < ends[1] else None
    marks = tuple(token_marks(found.detection, len(tokens.ids))[part])
    return Passage(caption=caption, pieces=tuple(shown), marks=marks, span=span)


def _figures(found: Finding) -> str:
    assert found.detection is not None
    return f"p {p_value(found.log10_p)}, z {found.detection.z:.2f}"


def _row(record: dict[str, Any], *, several: bool) -> list[str]:
    name = record["id"] + (f" (piece {record['piece']})" if "piece" in record else "")
    verdict = record["verdict"]
    if "tokens_needed" in record:
        needed = record["tokens_needed"]
        verdict += " (no length is)" if needed is None else f" (about {needed:,} needed)"
    spans = ", ".join(f"{span['start']}-{span['end']}" for span in record["spans"]) or "-"
    green = f"{record['green']}/{record['scored']}"
    return [
        name,
        f"{record['tokens']:,}",
        green,
        f"{record['z']:.2f}",
        p_value(record["log10_p"]),
        verdict,
        *([record["mark"]] if several else []),
        spans,
        str(record.get("payload", "-")),
    ]
