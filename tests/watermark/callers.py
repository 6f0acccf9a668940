"""Marks, a tokenizer, a running service, and ways to ask it, for the tests of the service."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from assay.watermark import Watermark
from assay.watermark.marks import NamedMark
from assay.watermark.serving import Limits, Server, Service, serve
from assay.watermark.tokenization import Encoded, Tokenizer

KEYS = (918273645546372819, 1122334455667788)
SECRET = "violet-giraffe"
V = 300
JSON = {"Content-Type": "application/json"}
HEADER = b"Host: x\r\nContent-Type: application/json\r\n"


class Letters:
    """A tokenizer whose tokens are characters."""

    def __init__(self, digest: str = "letters") -> None:
        self.name, self.digest, self.size = digest, digest, V

    def encode_many(self, texts: Sequence[str]) -> list[Encoded]:
        return [
            Encoded(
                np.array([ord(letter) % V for letter in text], dtype=np.int64),
                np.array([[i, i + 1] for i in range(len(text))], dtype=np.int64).reshape(-1, 2),
            )
            for text in texts
        ]


def tokenizer(digest: str = "letters") -> Tokenizer:
    return cast(Tokenizer, Letters(digest))


def marks() -> list[NamedMark]:
    return [
        NamedMark("first", Watermark("philox", vocab_size=V, key=KEYS[0]), source="secret/path"),
        NamedMark("second", Watermark("unigram", vocab_size=V, key=KEYS[1])),
    ]


def marked_ids(mark: NamedMark, length: int = 120, seed: int = 0) -> list[int]:
    """Ids that are mostly green."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, V, 4).tolist()
    while len(ids) < length:
        green = mark.watermark.green_ids(ids)
        ids.append(int(draw.choice(green) if draw.random() < 0.8 else draw.integers(0, V)))
    return ids


def small() -> Service:
    """A service with both marks, a tokenizer for each, and low limits."""
    return Service(
        marks(),
        {"first": tokenizer(), "second": tokenizer()},
        Limits(body_bytes=200_000, documents=20, tokens=2000, seconds_to_read=5),
    )


@contextmanager
def running(service: Service, **options: Any) -> Iterator[tuple[Server, list[str]]]:
    lines: list[str] = []
    server = Server(service, log=lines.append, **options)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(server,), kwargs={"stop": stop, "seconds_to_end": 1.0})
    thread.start()
    try:
        yield server, lines
    finally:
        stop.set()
        thread.join()


def ask(
    server: Server, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = (JSON if content is not None else {}) | (headers or {})
    connection.request(method, path, content, given)
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, json.loads(read) if read else None, answer.headers


def send(server: Server, raw: bytes, *, pause: float = 0.0, piece: int = 0) -> tuple[int, Any]:
    """Bytes as they are, at once or in pieces; the status and the JSON of the answer."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        try:
            for at in range(0, len(raw), piece or max(1, len(raw))):
                connection.sendall(raw[at : at + (piece or len(raw))])
                time.sleep(pause)
        except OSError:
            pass  # the answer has come before all was sent
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    assert found, received
    return int(found[1]), json.loads(body)
