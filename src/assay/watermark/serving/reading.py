"""From the bytes of a request to what it asks: hostile bytes end here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import did_you_mean
from .limits import Limits
from .refusals import Refusal, unprocessable

FPR = 1e-6
LONGEST_NAME = 200
LARGEST_ID = 2**31 - 1
OPTIONS = ("marks", "fpr", "windows", "tokens")
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A document, as text or as ids; one of the two is None.

    Args:
        name: what the caller calls it.
        text: of the document.
        ids: of the document.
        wrong: why it cannot be examined, if so.
    """

    name: str | int | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    wrong: Refusal | None = None


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a request asks.

    Args:
        documents: in the order of the request.
        marks: names of the marks to look for; None: all that fit.
        fpr: share of unmarked documents that may be called marked.
        windows: whether parts that carry the mark are searched for besides.
        tokens: whether the answer says the mark of every token.
    """

    documents: tuple[Asked, ...]
    marks: tuple[str, ...] | None = None
    fpr: float = FPR
    windows: bool = False
    tokens: bool = False


def read_json(body: bytes, limits: Limits) -> Any:
    """The value of a JSON text.

    Raises:
        Refusal: 400 where it is not UTF-8, not JSON, nested deeper than allowed, holds NaN or an infinity, or names a
            field twice.

    Cost: one pass over the bytes before any object is made.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(
            400, f"The body is not UTF-8: byte {error.start} cannot be read.", "Send JSON in UTF-8."
        ) from None
    if _too_deep(body, limits.depth):
        raise Refusal(
            400,
            f"The JSON is nested deeper than {limits.depth} levels.",
            "Send the fields of /openapi.json, which need 4 levels.",
        )
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise Refusal(
            400,
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            "Send one JSON object.",
        ) from None
    except (ValueError, RecursionError):  # numbers of thousands of digits
        raise Refusal(400, "The body holds a number that cannot be read.", "Send ids below 2^31.") from None


def read_query(body: bytes, limits: Limits, known: Sequence[str]) -> Query:
    """One document with its options, as ``POST /detect`` takes them.

    Args:
        body: of the request.
        limits: of the service.
        known: names of the marks.

    Raises:
        Refusal: 400, 413 or 422.
    """
    values = _object(read_json(body, limits), "The body")
    _fields(values, ("id", "text", "ids", *OPTIONS), "The request")
    document = _document(values, "The request", limits)
    if document.wrong is not None:
        raise document.wrong
    return Query(documents=(document,), **_options(values, known))


def read_batch(body: bytes, limits: Limits, known: Sequence[str]) -> Query:
    """Many documents with common options, as ``POST /detect/batch`` takes them.

    A document that cannot be examined does not keep the others from it: its reason stands in its place.

    Raises:
        Refusal: 400, 413 or 422.
    """
    values = _object(read_json(body, limits), "The body")
    _fields(values, ("documents", *OPTIONS), "The request")
    documents = values.get("documents")
    if not isinstance(documents, list) or not documents:
        raise unprocessable(
            f"'documents' is {_kind(documents)}.", "Give a list of objects, each with 'text' or 'ids', at least one."
        )
    if len(documents) > limits.documents:
        raise Refusal(
            413,
            f"The batch has {len(documents):,} documents; at most {limits.documents:,} are allowed.",
            "Send several batches, or raise the service's --max-documents.",
        )
    return Query(
        documents=tuple(_row(one, index, limits) for index, one in enumerate(documents)), **_options(values, known)
    )


def too_long(what: str, tokens: int, limits: Limits) -> Refusal:
    """413: a document has more tokens than allowed."""
    return Refusal(
        413,
        f"{what} has {tokens:,} tokens; at most {limits.tokens:,} are allowed.",
        "Cut it into several, or raise the service's --max-tokens.",
    )


def _row(value: Any, index: int, limits: Limits) -> Asked:
    name: Any = None
    try:
        values = _object(value, f"Document {index}")
        if isinstance(values.get("id"), (str, int)) and not isinstance(values.get("id"), bool):
            name = values["id"]
        _fields(values, ("id", "text", "ids"), f"Document {index}")
        return _document(values, f"Document {index}", limits)
    except Refusal as refusal:
        return Asked(name=name if _name_fits(name) else None, wrong=refusal)


def _document(values: Mapping[str, Any], where: str, limits: Limits) -> Asked:
    name = values.get("id")
    if not _name_fits(name):
        raise unprocessable(
            f"{where}: 'id' is {_kind(name)}.", f"Give text of at most {LONGEST_NAME} characters or a whole number."
        )
    if ("text" in values) == ("ids" in values):
        both = "both 'text' and 'ids'" if "text" in values else "neither 'text' nor 'ids'"
        raise unprocessable(
            f"{where} has {both}.", "Give one of them: text, or the token ids of the model's tokenizer."
        )
    if "text" in values:
        return Asked(name=name, text=_text(values["text"], where))
    return Asked(name=name, ids=_ids(values["ids"], where, limits))


def _text(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise unprocessable(f"{where}: 'text' is {_kind(text)}.", "Give text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise unprocessable(
            f"{where}: character {error.start} of 'text' is half of a surrogate pair.",
            "Escape characters beyond U+FFFF as a pair, or send them as UTF-8.",
        ) from None
    return text


def _ids(ids: Any, where: str, limits: Limits) -> tuple[int, ...]:
    if not isinstance(ids, list):
        raise unprocessable(f"{where}: 'ids' is {_kind(ids)}.", "Give a list of whole numbers.")
    if len(ids) > limits.tokens:
        raise too_long(where, len(ids), limits)
    for place, value in enumerate(ids):
        if type(value) is not int or not 0 <= value <= LARGEST_ID:
            raise unprocessable(
                f"{where}: 'ids' has {_kind(value)} at position {place}.",
                "Give whole numbers from 0 to the vocabulary's size - 1.",
            )
    return tuple(ids)


def _options(values: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("windows", "tokens"):
        if name in values:
            if not isinstance(values[name], bool):
                raise unprocessable(f"{name!r} is {_kind(values[name])}.", "Give true or false.")
            found[name] = values[name]
    if "fpr" in values:
        fpr = values["fpr"]
        if isinstance(fpr, bool) or not isinstance(fpr, (int, float)) or not 0 < fpr < 1:
            raise unprocessable(f"'fpr' is {_kind(fpr)}.", "Give a number above 0 and below 1, such as 1e-6.")
        found["fpr"] = float(fpr)
    if "marks" in values:
        names = values["marks"]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise unprocessable(f"'marks' is {_kind(names)}.", "Give a list of names; GET /marks tells them.")
        for name in names:
            if name not in known:
                raise unprocessable(
                    f"There is no mark of the name {name[:LONGEST_NAME]!r}.",
                    f"GET /marks tells the names.{did_you_mean(name[:LONGEST_NAME], known)}",
                )
        found["marks"] = tuple(dict.fromkeys(names))
    return found


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unprocessable(f"{what} is {_kind(value)}, not an object.", 'Send an object: {"text": "..."}.')
    return value


def _fields(values: Mapping[str, Any], allowed: Sequence[str], what: str) -> None:
    for name in values:
        if name not in allowed:
            raise unprocessable(
                f"{what} has the field {name[:LONGEST_NAME]!r}, which is not known.",
                f"Leave it out.{did_you_mean(name[:LONGEST_NAME], allowed)}",
            )


def _name_fits(name: Any) -> bool:
    if name is None:
        return True
    if isinstance(name, str):
        return len(name) <= LONGEST_NAME and name.isprintable()
    return type(name) is int and abs(name) < 2**63


def _kind(value: Any) -> str:
    """What a value is, in words that repeat no text of the caller."""
    if value is None:
        return "null or missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value:.6g}" if abs(value) < 1e15 else "a number too large"
    if isinstance(value, str):
        return "empty text" if not value else f"text of {len(value):,} characters"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value):,} values"
    return "an object"


def _too_deep(body: bytes, limit: int) -> bool:
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > limit:
            return True
    return False


def _no_number(name: str) -> float:
    raise Refusal(400, f"The body holds {name}, which is not JSON.", "Send finite numbers.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refusal(400, "The body holds a number beyond the range of doubles.", "Send finite numbers.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Refusal(400, "An object of the body names a field twice.", "Name each field once.")
    return values
