"""The end of a scan: candidates corrected for all windows, written in their order, and told."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...core.files import plain, storage_error
from ..common import note
from ..output import table
from .results import STANDARD_OUTPUT, Results
from .wording import count, p_value, place_of

MOST_ROWS, MOST_REMARKS = 200, 20


def conclude(journal: Results, out: str | None, *, fpr: float, counts: Mapping[str, int], several: bool) -> int:
    """Write and tell what a scan found.

    Args:
        journal: a line a block of the corpus, with its candidates and what could not be read.
        out: a file, ``-``, or None for a table.
        fpr: chance of a false passage in the whole corpus.
        counts: texts, tokens, windows and bad lines of the corpus.
        several: whether there are several marks.

    Returns:
        Number of passages. They pass by one after the other, however many they are.
    """
    kept = 0
    rows: list[list[str]] = []

    def records() -> Iterator[dict[str, Any]]:
        nonlocal kept
        for passage in corrected(joined(_each(journal, "found")), fpr, counts["windows"]):
            kept += 1
            if out is None and len(rows) < MOST_ROWS:
                rows.append(_row(passage, several))
            yield {"kind": "passage", **passage}
        for number, bad in enumerate(_each(journal, "bad"), 1):
            if number <= MOST_REMARKS:
                note(f"error: {place_of(bad)}: {bad['error']}")
            yield {"kind": "error", **bad}
        correction = "Bonferroni over all windows"
        yield {"kind": "summary", **counts, "passages": kept, "fpr": fpr, "correction": correction}

    _write(out, records())
    if rows:
        heads = ["text", "tokens", "characters", "green", "z", "p-value", *(["mark"] if several else []), "begins"]
        table("", heads, rows, right=[3, 4, 5])
    if out is None and kept > len(rows):
        note(f"The first {len(rows)} of {kept:,} passages are shown; --out FILE keeps all.")
    if counts["bad"] > MOST_REMARKS:
        note(f"error: {counts['bad'] - MOST_REMARKS:,} more lines cannot be read; --out FILE names all.")
    bad = f" {count(counts['bad'], 'line')} could not be read." if counts["bad"] else ""
    told = ", ".join(count(counts[name], name[:-1]) for name in ("texts", "tokens", "windows"))
    (note if out == STANDARD_OUTPUT else print)(f"{told}: {count(kept, 'marked passage')}.{bad}")
    return kept


def corrected(candidates: Iterable[dict[str, Any]], fpr: float, windows: int) -> Iterator[dict[str, Any]]:
    """Candidates that pass when the tail of their best window is multiplied by the number of all windows."""
    correction = math.log10(max(1, windows))
    for candidate in candidates:
        log10_p = min(0.0, candidate["log10_tail"] + correction)
        if log10_p <= math.log10(fpr):
            shown = {name: value for name, value in candidate.items() if name != "log10_tail"}
            yield {**shown, "p_value": 10.0**log10_p, "log10_p": log10_p}


def joined(candidates: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Candidates in their order; one that two overlapping pieces of a text both show becomes one."""
    text: tuple[Any, ...] | None = None
    waiting: list[dict[str, Any]] = []
    for candidate in candidates:
        name = (candidate["source"], candidate["line"], candidate["id"])
        if name != text:
            yield from waiting
            text, waiting = name, []
        same = (one for one in waiting if one["mark"] == candidate["mark"] and _one_passage(one, candidate))
        before = next(same, None)
        if before is None:
            waiting.append(dict(candidate))
        else:
            before.update(_merged(before, candidate))
    yield from waiting


def _merged(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The better of two views of a passage, with the characters (or ids) of both."""
    better, other = (a, b) if a["log10_tail"] <= b["log10_tail"] else (b, a)
    merged = dict(better)
    if better["characters"] and other["characters"]:
        ends = [*better["characters"], *other["characters"]]
        merged["characters"] = [min(ends), max(ends)]
    elif not better["characters"]:
        merged["start"], merged["end"] = min(a["start"], b["start"]), max(a["end"], b["end"])
    return merged


def _one_passage(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether candidates of different pieces overlap."""
    if a.get("piece") == b.get("piece"):
        return False
    first, second = a["characters"] or [a["start"], a["end"]], b["characters"] or [b["start"], b["end"]]
    return bool(first[0] < second[1] and second[0] < first[1])


def _each(journal: Results, name: str) -> Iterator[dict[str, Any]]:
    for record in journal.lines():
        yield from record[name]


def _write(out: str | None, records: Iterable[dict[str, Any]]) -> None:
    """All records into a file that is whole or absent, onto standard output, or nowhere."""
    lines = (json.dumps(plain(record), ensure_ascii=False) + "\n" for record in records)
    if out is None or out == STANDARD_OUTPUT:
        for line in lines:
            if out is not None:
                print(line, end="", flush=True)
        return
    fresh = f"{out}.new"
    try:
        with open(fresh, "w", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, out)
    except OSError as error:
        raise storage_error(error, out) from None


def _row(passage: dict[str, Any], several: bool) -> list[str]:
    place = passage["characters"]
    return [
        passage["id"] + (f" (piece {passage['piece']})" if "piece" in passage else ""),
        f"{passage['start']}-{passage['end']}",
        "-" if place is None else f"{place[0]}-{place[1]}",
        f"{passage['green']}/{passage['scored']}",
        f"{passage['z']:.2f}",
        p_value(passage["log10_p"]),
        *([passage["mark"]] if several else []),
        passage.get("begins", "-")[:40],
    ]
