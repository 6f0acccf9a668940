"""The detection service stands hostile requests, slow callers, crowds and secrets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.watermark.serving import Limits, Server, Service, serve
from assay.watermark.serving.contract import ROUTES
from assay.watermark.serving.reading import read_batch, read_json, read_query
from assay.watermark.serving.refusals import CODES, Refusal
from assay.watermark.tokenization import Encoded, Tokenizer

from .callers import HEADER, KEYS, SECRET, Letters, V, ask, marked_ids, marks, running, send, small, tokenizer


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Server, list[str]]]:
    with running(small()) as found:
        yield found


def post(body: bytes, path: str = "/detect", extra: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s" % (path.encode(), HEADER, extra, len(body), body)


REFUSED = {
    "not HTTP": (b"hello\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "unknown address": (b"GET /key HTTP/1.1\r\n\r\n", 404),
    "another's address": (b"GET http://example.org/marks HTTP/1.1\r\n\r\n", 404),
    "way up": (b"GET /../marks HTTP/1.1\r\n\r\n", 404),
    "long address": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    "long header": (b"GET /health HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET /health HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
    "no length": (b"POST /detect HTTP/1.1\r\n" + HEADER + b"\r\n", 411),
    "chunked": (b"POST /detect HTTP/1.1\r\n" + HEADER + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
    "both": (post(b"{}", extra=b"Transfer-Encoding: chunked\r\n"), 400),
    "two lengths": (post(b"{}", extra=b"Content-Length: 3\r\n"), 400),
    "negative length": (b"POST /detect HTTP/1.1\r\n" + HEADER + b"Content-Length: -1\r\n\r\n", 400),
    "length in words": (b"POST /detect HTTP/1.1\r\n" + HEADER + b"Content-Length: two\r\n\r\n{}", 400),
    "length of 40 digits": (b"POST /detect HTTP/1.1\r\n" + HEADER + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 413),
    "too large": (post(b" " * 200_001), 413),
    "no type": (b"POST /detect HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 415),
    "form": (post(b"{}").replace(b"application/json", b"application/x-www-form-urlencoded"), 415),
    "latin": (post(b"{}").replace(b"application/json", b"application/json; charset=latin-1"), 415),
    "nothing": (post(b""), 400),
    "no JSON": (post(b"text=abc"), 400),
    "cut JSON": (post(b'{"text": "a'), 400),
    "two values": (post(b'{"text": "a"} {}'), 400),
    "NaN": (post(b'{"text": "a", "fpr": NaN}'), 400),
    "infinity": (post(b'{"text": "a", "fpr": -Infinity}'), 400),
    "large number": (post(b'{"text": "a", "fpr": 1e999}'), 400),
    "long number": (post(b'{"ids": [' + b"1" * 5000 + b"]}"), 400),
    "twice": (post(b'{"text": "a", "text": "b"}'), 400),
    "no UTF-8": (post(b'{"text": "\xff\xfe"}'), 400),
    "UTF-16": (post('{"text": "a"}'.encode("utf-16")), 400),
    "deep lists": (post(b"[" * 90_000 + b"]" * 90_000), 400),
    "deep objects": (post(b'{"a":' * 30_000 + b"1" + b"}" * 30_000), 400),
    "deep after text": (post(b'{"text": "[[[\\"[[", "a": ' + b"[" * 9 + b"]" * 9 + b"}"), 400),
    "a list": (post(b"[1, 2]"), 422),
    "null": (post(b"null"), 422),
    "ids of text": (post(b'{"ids": ["a"]}'), 422),
    "ids in text": (post(b'{"ids": "1, 2"}'), 422),
    "ids of bool": (post(b'{"ids": [true]}'), 422),
    "fractions": (post(b'{"ids": [1.0]}'), 422),
    "negative": (post(b'{"ids": [-1]}'), 422),
    "beyond int64": (post(b'{"ids": [99999999999999999999999]}'), 422),
    "unknown id": (post(b'{"ids": [1, 300]}'), 422),
    "half a pair": (post(b'{"text": "\\ud800"}'), 422),
    "no name": (post(b'{"text": "a", "id": [1]}'), 422),
    "unknown mark": (post(b'{"text": "a", "marks": ["frist"]}'), 422),
    "no marks": (post(b'{"text": "a", "marks": []}'), 422),
    "fpr 0": (post(b'{"text": "a", "fpr": 0}'), 422),
    "too many tokens": (post(json.dumps({"ids": [1] * 2001}).encode()), 413),
    "too long text": (post(json.dumps({"text": "a" * 2001}).encode()), 413),
    "too many documents": (post(json.dumps({"documents": [{"text": "a"}] * 21}).encode(), "/detect/batch"), 413),
    "no documents": (post(b'{"documents": {}}', "/detect/batch"), 422),
    "page": (post(b'{"text": "a"}', extra=b"Origin: https://example.org\r\n"), 403),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_fault_has_its_status_a_cause_and_a_remedy(up: tuple[Server, list[str]], name: str) -> None:
    raw, status = REFUSED[name]
    found, answer = send(up[0], raw)
    assert found == status, answer
    assert set(answer) == {"error"}
    assert answer["error"]["status"] == status
    assert answer["error"]["code"] == CODES[status]
    assert answer["error"]["message"].endswith(".")
    assert len(answer["error"]["remedy"]) > 8
    assert len(json.dumps(answer)) < 1000


def test_a_body_cut_short_is_no_answer_and_harms_nobody(up: tuple[Server, list[str]]) -> None:
    with socket.create_connection(("127.0.0.1", up[0].server_port), timeout=10) as connection:
        connection.sendall(post(b'{"text": "abc"}')[:-4])
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in connection.recv(4096)
    with socket.create_connection(("127.0.0.1", up[0].server_port), timeout=10):
        pass
    assert ask(up[0], "GET", "/health")[0] == 200


def test_a_caller_that_waits_is_told_to_go_on_only_if_it_is_worth_it(up: tuple[Server, list[str]]) -> None:
    for length, expected in ((15, b"HTTP/1.1 100 "), (10**9, b"HTTP/1.1 413 ")):
        with socket.create_connection(("127.0.0.1", up[0].server_port), timeout=10) as connection:
            connection.sendall(
                b"POST /detect HTTP/1.1\r\n" + HEADER + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length
            )
            assert connection.recv(4096).startswith(expected)
            if length == 15:
                connection.sendall(b'{"text": "abc"}')
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_slow_callers_are_cut_off_however_they_spread_their_bytes() -> None:
    service = Service(marks(), limits=Limits(seconds_to_read=0.4))
    with running(service) as (server, lines):
        started = time.monotonic()
        for raw, pause, piece in (
            (b"GET /hea", 0.0, 0),
            (post(b'{"ids": [1, 2, 3]}'), 0.05, 1),
            (post(b"{}")[:-1], 0, 0),
        ):
            status, answer = send(server, raw, pause=pause, piece=piece)
            assert (status, answer["error"]["code"]) == (408, "request-timeout")
        assert time.monotonic() - started < 15
        assert ask(server, "GET", "/health")[0] == 200
    assert sum(" 408 " in line for line in lines) == 3


def test_more_than_it_can_do_is_refused_and_not_queued_for_ever() -> None:
    service = Service(marks(), limits=Limits(connections=2, seconds_to_read=2, seconds_to_wait=0.1, at_once=1))
    with running(service) as (server, _):
        idle = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(2)]
        time.sleep(0.3)
        status, answer, headers = ask(server, "POST", "/detect", {"ids": [1]})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "busy" in answer["error"]["message"]
        for one in idle:
            one.close()
        time.sleep(0.3)
        assert server._workers.acquire(timeout=1)  # as a long detection would
        assert ask(server, "POST", "/detect", {"ids": [1]})[0] == 503
        assert ask(server, "GET", "/health")[0] == 200
        server._workers.release()
        assert ask(server, "POST", "/detect", {"ids": [1]})[0] == 200


def test_many_callers_at_once_get_what_each_would_get_alone() -> None:
    (first, _) = marks()
    bodies = [{"ids": marked_ids(first, 40 + 5 * index, index), "id": index} for index in range(8)]
    answers: dict[int, Any] = {}
    with running(Service(marks(), limits=Limits(at_once=2))) as (server, _):
        expected = [ask(server, "POST", "/detect", body)[1] for body in bodies]

        def one(index: int) -> None:
            answers[index] = ask(server, "POST", "/detect", bodies[index])[1]

        threads = [threading.Thread(target=one, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answers[index] for index in range(8)] == expected


def test_a_token_guards_everything_but_health() -> None:
    token = "t" * 24
    with running(Service(marks()), token=token) as (server, lines):
        assert ask(server, "GET", "/health")[0] == 200
        for header in (
            {},
            {"Authorization": f"Bearer {token}x"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": "é"},
        ):
            status, answer, headers = ask(server, "GET", "/marks", headers=header)
            assert (status, answer["error"]["code"]) == (401, "unauthorized")
            assert headers["WWW-Authenticate"].startswith("Bearer")
        assert ask(server, "POST", "/detect", {"ids": [1]})[0] == 401
        assert ask(server, "POST", "/detect", {"ids": [1]}, {"Authorization": f"bearer {token}"})[0] == 200
    assert token not in "\n".join(lines)
    for bad in ("tiny", "has a space in its middle", "é" * 20):
        with pytest.raises(SettingError) as found:
            Server(Service(marks()), token=bad)
        assert bad not in str(found.value)


def test_neither_keys_nor_texts_reach_any_output(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Letters):
        def encode_many(self, texts: Sequence[str]) -> list[Encoded]:
            if SECRET in texts[0]:
                raise RuntimeError(f"cannot read {texts[0]}")
            return super().encode_many(texts)

    shown: list[str] = []
    with running(Service(marks(), {"first": cast(Tokenizer, Broken()), "second": tokenizer()})) as (server, lines):
        for path in ROUTES:
            shown.append(json.dumps(ask(server, "GET", path)[1]))
        for body in ({"text": "abc", "tokens": True}, {"text": SECRET}, {"ids": list(KEYS)}, {SECRET: 1}):
            status, answer, _ = ask(server, "POST", "/detect", body)
            shown.append(json.dumps(answer))
            if body.get("text") == SECRET:
                assert (status, answer["error"]["code"]) == (500, "internal-error")
        send(server, b"GET /" + SECRET.encode() + b"?" + SECRET.encode() + b" HTTP/1.1\r\n\r\n")
        send(server, SECRET.encode() + b" /marks HTTP/1.1\r\n\r\n")
        send(server, SECRET.encode() + b"\r\n\r\n")
    log = "\n".join(lines) + "".join(capfd.readouterr())
    assert SECRET not in log
    assert "RuntimeError" in log
    assert "test_serving" in log
    assert len(lines) >= 12
    for text in (*shown, log, repr(Service(marks()))):
        for key in KEYS:
            assert str(key) not in text
            assert f"{key:x}" not in text.lower()
        assert "secret/path" not in text


def test_open_requests_end_when_the_service_stops() -> None:
    service = Service(marks(), limits=Limits(seconds_to_wait=5, at_once=1))
    server, stop, answers = Server(service), threading.Event(), []
    thread = threading.Thread(target=serve, args=(server,), kwargs={"stop": stop})
    thread.start()
    server._workers.acquire()
    asking = threading.Thread(target=lambda: answers.append(ask(server, "POST", "/detect", {"ids": [1]})[0]))
    asking.start()
    time.sleep(0.4)
    stop.set()
    time.sleep(0.4)
    server._workers.release()
    asking.join()
    thread.join()
    assert answers == [200]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.server_port), timeout=1)


def test_an_address_in_use_is_named() -> None:
    with running(Service(marks())) as (server, _), pytest.raises(SettingError, match=f"port {server.server_port}"):
        Server(Service(marks()), port=server.server_port)
    with pytest.raises(SettingError, match="Cannot listen"):
        Server(Service(marks()), host="192.0.2.1")


# Fuzz.

SERVICE = small()
numbers = st.integers() | st.floats() | st.booleans() | st.none()
values = st.recursive(
    numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)
fields = st.sampled_from(["text", "ids", "id", "marks", "fpr", "windows", "tokens", "documents", "key"])
near = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=40) | values,
        "ids": st.lists(st.integers(-1, V + 1), max_size=30) | values,
        "id": st.text(max_size=5) | values,
        "marks": st.lists(st.sampled_from(["first", "second", "third"]), max_size=3) | values,
        "fpr": st.floats(0, 1) | values,
        "windows": st.booleans() | values,
        "tokens": st.booleans() | values,
        "documents": st.lists(st.dictionaries(fields, values, max_size=3), max_size=4) | values,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=near | st.dictionaries(fields, values, max_size=4), batch=st.booleans())
def test_any_json_is_answered_or_refused(body: dict[str, Any], batch: bool) -> None:
    raw = json.dumps(body).encode()
    read = read_batch if batch else read_query
    try:
        query = read(raw, SERVICE.limits, SERVICE.names)
    except Refusal as refused:
        query, refusal = None, refused
    if query is None:
        assert refusal.status in (400, 413, 422)
        assert refusal.as_dict()["error"]["remedy"]
        return
    results = SERVICE.answer(query)
    assert len(results) == len(query.documents)
    json.dumps(results, allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]",:\\0123456789eE+-. truefalsn\ufeff', max_size=60).map(str.encode)
)
def test_any_bytes_are_json_as_others_read_it_or_refused(raw: bytes) -> None:
    try:
        found, status = read_json(raw, Limits()), 200
    except Refusal as refusal:
        found, status = None, refusal.status
    assert status in (200, 400)
    assert status == 400 or found == json.loads(raw.decode("utf-8-sig"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([post(b'{"text": "abc"}'), b"GET /marks HTTP/1.1\r\nHost: x\r\n\r\n"]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
)
def test_garbled_requests_do_not_break_it(
    up: tuple[Server, list[str]], raw: bytes, changes: list[tuple[int, int]]
) -> None:
    garbled = bytearray(raw)
    for place, value in changes:
        garbled[place % len(garbled)] = value
    with socket.create_connection(("127.0.0.1", up[0].server_port), timeout=20) as connection:
        connection.sendall(bytes(garbled))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert not received or json.loads(received.partition(b"\r\n\r\n")[2] or received)
    assert b" 500 " not in received[:16]
