"""Answer detection requests over HTTP.

POST /detect and POST /detect/batch take text or token ids as JSON, GET /marks tells the marks (never a key),
GET /openapi.json describes everything, GET /health is for monitors. With several marks, p-values are corrected for
their number.

  assay watermark serve --mark mark.json --key-file key --tokenizer hf:DIR
  curl -H 'Content-Type: application/json' -d '{"text": "..."}' http://127.0.0.1:8017/detect

Only programs on this computer can ask, unless --host says otherwise. Whoever can ask can also find out which words
are green, by asking often enough: a service that others reach needs --token-file, and a proxy in front that speaks TLS.
The log has a line a request: no text, no ids, no key.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from ...core.errors import EXIT_OK, SettingError
from ..common import note, positive, quoted, whole
from .flags import add_mark_flags, add_tokenizer_flag, natural, read_marks

if TYPE_CHECKING:
    from ...watermark.marks import NamedMark
    from ...watermark.serving.limits import Limits
    from ...watermark.tokenization import Tokenizer

PORT = 8017
VARIABLE = "ASSAY_SERVICE_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark serve``."""
    add_mark_flags(parser)
    add_tokenizer_flag(parser)
    group = parser.add_argument_group("service")
    group.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this computer alone; 0.0.0.0: everyone who reaches it)",
    )
    group.add_argument("--port", type=natural, metavar="N", default=PORT, help=f"default: {PORT}; 0: any free one")
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"callers must send the token in this file as 'Authorization: Bearer TOKEN' (default: {VARIABLE}, if set)",
    )
    group.add_argument("--quiet", action="store_true", help="write no line a request")
    group.add_argument("--dry-run", action="store_true", help="check marks, keys and tokenizers, and stop")
    group = parser.add_argument_group("limits")
    group.add_argument("--max-body", type=whole, metavar="BYTES", help="largest request (default: 4194304)")
    group.add_argument("--max-documents", type=whole, metavar="N", help="documents in a batch (default: 1000)")
    group.add_argument("--max-tokens", type=whole, metavar="N", help="tokens in a document (default: 100000)")
    group.add_argument("--read-timeout", type=positive, metavar="SECONDS", help="for a request to arrive (default: 10)")
    group.add_argument("--connections", type=whole, metavar="N", help="at once, more are told to wait (default: 64)")
    group.add_argument("--at-once", type=whole, metavar="N", help="detections at once (default: 2)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from ...watermark.serving import Server, Service, serve

    limits = _limits(arguments)
    if arguments.port > 65535:
        raise SettingError(f"--port is {arguments.port}; allowed: 0 to 65535.")
    marks = read_marks(arguments)
    token = read_token(arguments.token_file)
    service = Service(marks, _tokenizers(marks), limits)
    if arguments.dry_run:
        print(f"{len(marks)} mark{'s' * (len(marks) > 1)} ready: {', '.join(service.names)}.")
        return EXIT_OK
    if arguments.host not in LOOPBACK:
        _warn(arguments.host, token is not None)
    server = Server(service, arguments.host, arguments.port, token=token, log=None if arguments.quiet else note)
    print(f"Listening on {server.url} for {len(marks)} mark{'s' * (len(marks) > 1)}. Ctrl-C stops it.", flush=True)
    note(f"Try: {quoted(_example(server.url, marks, service, token is not None))}")
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: _stop(stop)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ended = serve(server, stop=stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    note("Stopped." if ended else "Stopped; requests that took too long were cut off.")
    return EXIT_OK


def read_token(path: str | None) -> str | None:
    """The token that callers must send: from a file, else from the environment; None if there is neither.

    Raises:
        SettingError: the file cannot be read, or holds no token; what was read is not shown.
    """
    if path is None:
        return os.environ.get(VARIABLE)
    try:
        with open(path, "rb") as file:
            content = file.read(4097)
    except OSError as error:
        raise SettingError(f"Cannot read the token file {path!r}: {error.strerror}. Check the path.") from None
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > 4096:
        raise SettingError(f"The token file {path!r} holds no token; write 16 or more letters and digits on one line.")
    return text


def _limits(arguments: argparse.Namespace) -> Limits:
    from ...watermark.serving import Limits

    given: dict[str, Any] = {
        "body_bytes": arguments.max_body,
        "documents": arguments.max_documents,
        "tokens": arguments.max_tokens,
        "seconds_to_read": arguments.read_timeout,
        "connections": arguments.connections,
        "at_once": arguments.at_once,
    }
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _tokenizers(marks: list[NamedMark]) -> dict[str, Tokenizer]:
    """Tokenizers of the marks that have one; the others take ids alone."""
    from .flags import read_tokenizers

    found = read_tokenizers(marks, ids=True)
    for mark in marks:
        if mark.name not in found:
            note(f"The mark {mark.name!r} has no --tokenizer: it takes token ids, and no text.")
    return found


def _example(url: str, marks: list[NamedMark], service: Any, protected: bool) -> list[str]:
    text = any(row["text"] for row in service.describe())
    body = '{"text": "..."}' if text else '{"ids": [1, 2, 3]}'
    token = ["-H", "Authorization: Bearer TOKEN"] * protected
    return ["curl", "-H", "Content-Type: application/json", *token, "-d", body, f"{url}/detect"]


def _warn(host: str, protected: bool) -> None:
    note(
        f"warning: everyone who reaches {host} can ask, and what they send is not encrypted. Put a proxy that speaks "
        "TLS in front."
    )
    if not protected:
        note(
            "warning: no token is needed. Answers tell which words are green, so with many questions the mark can be "
            f"removed or imitated. Give --token-file FILE, or set {VARIABLE}."
        )


def _stop(stop: threading.Event) -> None:
    """The first signal ends gently; the next one at once."""
    if stop.is_set():
        os._exit(130)
    stop.set()
    print("\nStopping; open requests may end (again: at once).", file=sys.stderr, flush=True)
