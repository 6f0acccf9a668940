"""Bytes of answers and lines of the log: neither holds more than it must."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from .refusals import CODES, Refusal


def failure(error: BaseException) -> str:
    """An unexpected error for the log: its kind and place; its message could hold a text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "?")
        place = f" in {module}, line {trace.tb_lineno}"
    return f"{now()} error {type(error).__name__}{place}"


def encoded(value: Any) -> bytes:
    """JSON in ASCII, on one line."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def head(status: int, length: int, headers: Mapping[str, str] | None) -> bytes:
    """Status line and headers."""
    lines = [
        f"HTTP/1.1 {status} {CODES.get(status, 'ok').replace('-', ' ')}",
        "Server: Assay",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def answer(refusal: Refusal) -> bytes:
    """A whole answer that refuses."""
    content = encoded(refusal.as_dict())
    return head(refusal.status, len(content), refusal.headers) + content


def log_line(peer: str, method: str, route: str, status: int, seconds: float) -> str:
    """A request for the log: method and route are ours or ``-``, never what was sent."""
    return f"{now()} {peer} {method} {route} {status} {1000 * seconds:.0f} ms"


def now() -> str:
    """Date and time for the log."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
