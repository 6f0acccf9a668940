"""The detection service answers real HTTP clients with the numbers of the detector, as its contract says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from assay.core.estimates import holm
from assay.watermark.serving import Limits, Server, Service
from assay.watermark.serving.contract import ROUTES, openapi

from .callers import V, ask, marked_ids, marks, running, small, tokenizer


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Server, list[str]]]:
    with running(small()) as found:
        yield found


def test_ids_and_text_get_the_numbers_of_the_detector(up: tuple[Server, list[str]]) -> None:
    server, _ = up
    (first, second) = marks()
    ids = marked_ids(first)
    status, answer, _ = ask(server, "POST", "/detect", {"ids": ids, "id": 7, "tokens": True})
    assert status == 200
    assert (answer["id"], answer["verdict"], answer["mark"]) == (7, "marked", "first")
    for mark, row in zip((first, second), answer["marks"], strict=True):
        found = mark.watermark.detect(ids)
        assert row["mark"] == mark.name
        assert row["fingerprint"] == mark.watermark.fingerprint
        assert (row["z"], row["green"], row["scored"]) == (found.z, found.green, found.scored)
        assert row["log10_p"] == pytest.approx(found.log10_p)
        assert row["token_marks"].count("green") == found.green
        assert row["token_marks"].count("red") == found.scored - found.green
    corrected = holm([row["p_value"] for row in answer["marks"]])
    assert [row["p_value_corrected"] for row in answer["marks"]] == pytest.approx(corrected.tolist())
    text = "".join(chr(value + (V if value < 32 else 0)) for value in ids)
    status, same, _ = ask(server, "POST", "/detect", {"text": text, "id": 7})
    assert status == 200
    assert [row["z"] for row in same["marks"]] == [row["z"] for row in answer["marks"]]


def test_windows_find_the_marked_part(up: tuple[Server, list[str]]) -> None:
    (first, _) = marks()
    human = np.random.default_rng(5).integers(32, V, 400).tolist()
    ids = human[:200] + [i for i in marked_ids(first) if i >= 32] + human[200:]
    text = "".join(map(chr, ids))
    status, answer, _ = ask(
        up[0], "POST", "/detect", {"text": text, "windows": True, "marks": ["first"], "tokens": True}
    )
    assert status == 200
    (row,) = answer["marks"]
    assert row["verdict"] == "marked"
    (span,) = row["spans"]
    assert 180 <= span["start"] <= 230
    assert span["characters"] == [span["start"], span["end"]]
    assert row["log10_p_best_part"] <= span["log10_p"]
    assert "".join(row["pieces"]) == text


def test_a_short_text_says_how_many_tokens_it_lacks(up: tuple[Server, list[str]]) -> None:
    for body in ({"text": ""}, {"ids": []}, {"text": "ab"}, {"ids": [1, 2, 3, 4, 5, 6]}):
        status, answer, _ = ask(up[0], "POST", "/detect", body)
        assert status == 200
        assert answer["verdict"] == "not enough tokens"
        assert all(row["tokens_needed"] > 20 for row in answer["marks"])


def test_a_batch_answers_every_document_in_its_place(up: tuple[Server, list[str]]) -> None:
    (first, _) = marks()
    documents = [
        {"id": "a", "ids": marked_ids(first)},
        {"id": "b", "ids": [1, V]},
        {"id": "c"},
        5,
        {"id": "d", "text": "x" * 2001},
        {"id": "e", "text": "plain text"},
        {"id": "f", "ids": [1] * 2001},
        {"id": "g", "text": "\ud800"},
    ]
    status, answer, _ = ask(up[0], "POST", "/detect/batch", {"documents": documents})
    assert status == 200
    rows = answer["results"]
    assert [row["id"] for row in rows] == ["a", "b", "c", None, "d", "e", "f", "g"]
    assert [row.get("verdict") for row in rows] == ["marked", None, None, None, None, "not enough tokens", None, None]
    assert [row["error"]["status"] for row in rows if "error" in row] == [422, 422, 422, 413, 413, 422]
    assert "position 1" in rows[1]["error"]["message"]
    alone = ask(up[0], "POST", "/detect", documents[0])[1]
    assert rows[0] == alone


def test_ids_of_several_tokenizers_must_say_whose() -> None:
    two = Service(marks(), {"first": tokenizer(), "second": tokenizer("other")})
    with running(two) as (server, _):
        status, answer, _ = ask(server, "POST", "/detect", {"ids": [1, 2]})
        assert (status, answer["error"]["code"]) == (422, "unprocessable-content")
        assert ask(server, "POST", "/detect", {"ids": [1, 2], "marks": ["first"]})[0] == 200
        assert len(ask(server, "POST", "/detect", {"text": "abc"})[1]["marks"]) == 2
    with running(Service(marks(), {"first": tokenizer()})) as (server, _):
        assert [row["mark"] for row in ask(server, "POST", "/detect", {"text": "abc"})[1]["marks"]] == ["first"]
        assert ask(server, "POST", "/detect", {"text": "abc", "marks": ["second"]})[0] == 422


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "") -> list[str]:
    """What of a value contradicts its schema: the part of JSON Schema that the service uses."""
    if "$ref" in schema:
        schema = root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        fitting = [one for one in schema["oneOf"] if not conforms(value, one, root)]
        if len(fitting) != 1:
            return [f"{where}: fits {len(fitting)} of oneOf"]
    kinds = schema.get("type", [])
    python = {
        "object": dict,
        "array": list,
        "string": str,
        "number": (int, float),
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    names = [kinds] if isinstance(kinds, str) else kinds
    if names and not any(
        isinstance(value, cast(Any, python[name])) and not (name in ("integer", "number") and isinstance(value, bool))
        for name in names
    ):
        return [f"{where}: {value!r} is no {kinds}"]
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return [f"{where}: {value!r} is not allowed"]
    wrong = []
    if isinstance(value, dict):
        wrong += [f"{where}: lacks {name}" for name in schema.get("required", []) if name not in value]
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False:
            wrong += [f"{where}: has {name}" for name in value if name not in known]
        for name, item in value.items():
            wrong += conforms(item, known.get(name, {}), root, f"{where}.{name}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            wrong.append(f"{where}: has {len(value)} items")
        for index, item in enumerate(value):
            wrong += conforms(item, schema.get("items", {}), root, f"{where}[{index}]")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high:
            wrong.append(f"{where}: {value} is not in range")
        if not schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1):
            wrong.append(f"{where}: {value} is not inside its range")
    return wrong


def test_requests_and_answers_match_the_document(up: tuple[Server, list[str]]) -> None:
    server, _ = up
    status, root, _ = ask(server, "GET", "/openapi.json")
    assert (status, root["openapi"]) == (200, "3.1.0")
    assert {(path, method.upper()) for path, item in root["paths"].items() for method in item} == {
        (path, method) for path, methods in ROUTES.items() for method in methods if method != "HEAD"
    }
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(root))
    assert set(references) == set(root["components"]["schemas"])
    (first, _) = marks()
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/health", None),
        ("GET", "/marks", None),
        ("POST", "/detect", {"text": "abc" * 30, "windows": True, "tokens": True, "fpr": 0.01, "id": "x"}),
        ("POST", "/detect", {"ids": marked_ids(first), "marks": ["first"], "tokens": True}),
        ("POST", "/detect", {"text": "a", "ids": [1]}),
        ("POST", "/detect", {}),
        ("POST", "/detect", {"text": 1}),
        ("POST", "/detect", {"text": "a", "fpr": 1}),
        ("POST", "/detect", {"text": "a", "tokens": 1}),
        ("POST", "/detect", {"text": "a", "more": 1}),
        ("POST", "/detect/batch", {"documents": [{"text": "abc"}, {"id": 1, "ids": [V + 1]}]}),
        ("POST", "/detect/batch", {"documents": []}),
        ("POST", "/detect/batch", {"documents": [{"text": "abc"}] * 21}),
    ]
    for method, path, body in requests:
        status, answer, headers = ask(server, method, path, body)
        about = root["paths"][path][method.lower()]
        schema = about["responses"][str(status)]["content"]["application/json"]["schema"]
        assert conforms(answer, schema, root) == [], (path, body)
        if body is not None and not path.endswith("batch"):
            asked = about["requestBody"]["content"]["application/json"]["schema"]
            assert (conforms(body, asked, root) == []) == (status == 200), (path, body)
        assert headers["Content-Type"] == "application/json"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]
    assert conforms({"text": "a", "ids": []}, {"$ref": "#/components/schemas/DetectRequest"}, root)
    assert openapi(Limits(), protected=True)["components"]["securitySchemes"]


def test_head_has_no_body_and_options_are_not_taken(up: tuple[Server, list[str]]) -> None:
    status, body, headers = ask(up[0], "HEAD", "/health")
    assert (status, body) == (200, None)
    assert int(headers["Content-Length"]) > 0
    for method in ("OPTIONS", "PUT", "DELETE", "TRACE", "BREW", "get"):
        status, body, headers = ask(up[0], method, "/detect")
        assert (status, headers["Allow"]) == (405, "POST")
    assert ask(up[0], "POST", "/health", {})[0] == 405
