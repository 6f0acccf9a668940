"""The service in the words of OpenAPI 3.1; the tests check real answers against it."""

from __future__ import annotations

from typing import Any

from .limits import Limits
from .reading import FPR, LARGEST_ID, LONGEST_NAME

ROUTES: dict[str, tuple[str, ...]] = {
    "/detect": ("POST",),
    "/detect/batch": ("POST",),
    "/health": ("GET", "HEAD"),
    "/marks": ("GET", "HEAD"),
    "/openapi.json": ("GET", "HEAD"),
}
_WHY = {
    400: "the request or its JSON cannot be read",
    401: "the token is missing or wrong",
    403: "asked by a web page",
    408: "the request did not arrive in time",
    411: "no Content-Length, or a body in chunks",
    413: "too many bytes, documents or tokens",
    415: "the body is not application/json in UTF-8",
    422: "the JSON does not say what is needed",
    500: "the service failed",
    503: "too many requests at once",
}
_NUMBER, _WHOLE, _TEXT = {"type": "number"}, {"type": "integer", "minimum": 0}, {"type": "string"}
_VERDICT = {"type": "string", "enum": ["marked", "not marked", "not enough tokens"]}
_OPTIONS = {
    "marks": {
        "type": "array",
        "items": _TEXT,
        "minItems": 1,
        "description": "names of the marks to look for; default: all that fit",
    },
    "fpr": {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": FPR,
        "description": "share of unmarked documents that may be called marked",
    },
    "windows": {
        "type": "boolean",
        "default": False,
        "description": "also search for parts that carry the mark, with p-values that account for the search",
    },
    "tokens": {"type": "boolean", "default": False, "description": "tell the mark of every token"},
}


def openapi(limits: Limits, *, protected: bool = False) -> dict[str, Any]:
    """The OpenAPI document of a service.

    Args:
        limits: of the service.
        protected: whether a token is needed.
    """
    document = {
        "id": {
            "type": ["string", "integer", "null"],
            "maxLength": LONGEST_NAME,
            "description": "given back with the result",
        },
        "text": {"type": "string", "description": "the document; or give ids"},
        "ids": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_ID},
            "maxItems": limits.tokens,
            "description": "token ids of the model's tokenizer, without prompt and special tokens",
        },
    }
    schemas = {
        "Document": _asked(document),
        "DetectRequest": _asked({**document, **_OPTIONS}),
        "BatchRequest": {
            "type": "object",
            "required": ["documents"],
            "additionalProperties": False,
            "properties": {
                "documents": {
                    "type": "array",
                    "items": _ref("Document"),
                    "minItems": 1,
                    "maxItems": limits.documents,
                },
                **_OPTIONS,
            },
        },
        "MarkResult": _mark_result(),
        "Result": _object(
            {
                "id": {"type": ["string", "integer", "null"]},
                "verdict": _VERDICT,
                "mark": {"type": ["string", "null"], "description": "the strongest mark, if the document is marked"},
                "fpr": _NUMBER,
                "marks": {"type": "array", "items": _ref("MarkResult")},
            }
        ),
        "Failed": _object({"id": {"type": ["string", "integer", "null"]}, "error": _ref("Cause")}),
        "BatchResult": _object({"results": {"type": "array", "items": {"oneOf": [_ref("Result"), _ref("Failed")]}}}),
        "Health": _object({"status": {"const": "ok"}, "marks": _WHOLE}),
        "Marks": _object(
            {
                "marks": {
                    "type": "array",
                    "items": _object(
                        {
                            "name": _TEXT,
                            "fingerprint": _TEXT,
                            "settings": {"type": "object"},
                            "text": {"type": "boolean", "description": "whether text can be examined, not ids alone"},
                        }
                    ),
                }
            }
        ),
        "Cause": _object({"status": {"type": "integer"}, "code": _TEXT, "message": _TEXT, "remedy": _TEXT}),
        "Error": _object({"error": _ref("Cause")}),
    }
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Assay watermark detection",
            "version": "1",
            "description": "Tells whether documents carry a mark. P-values are exact and corrected for the number of "
            "marks (Holm), not for the number of documents. A body has at most "
            f"{limits.body_bytes:,} bytes and {limits.depth} levels, and arrives within {limits.seconds_to_read:g} s.",
        },
        "paths": {
            "/detect": {"post": _post("Examine one document", "DetectRequest", "Result", protected)},
            "/detect/batch": {
                "post": _post(
                    "Examine many documents; one that cannot be examined has its reason in its place",
                    "BatchRequest",
                    "BatchResult",
                    protected,
                )
            },
            "/health": {"get": _get("Whether the service is up", "Health", False)},
            "/marks": {"get": _get("The marks, their settings and fingerprints", "Marks", protected)},
            "/openapi.json": {"get": _get("This document", None, protected)},
        },
        "components": {"schemas": schemas},
    }
    if protected:
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return content


def _mark_result() -> dict[str, Any]:
    always = {
        "mark": _TEXT,
        "fingerprint": _TEXT,
        "verdict": _VERDICT,
        "p_value": {**_NUMBER, "description": "exact; 0 below 1e-307, where log10_p tells it"},
        "p_value_corrected": {
            **_NUMBER,
            "description": "for the number of marks, and for the search of parts, by Holm",
        },
        "log10_p": _NUMBER,
        "log10_p_corrected": _NUMBER,
        "z": _NUMBER,
        "green": _WHOLE,
        "scored": {**_WHOLE, "description": "n-grams counted, each once"},
        "green_fraction": _NUMBER,
        "tokens": _WHOLE,
        "tokens_needed": {
            "type": ["integer", "null"],
            "description": "n-grams that a detection at this fpr needs in typical text; null: no number suffices",
        },
        "payload": {"type": ["integer", "null"]},
    }
    more = {
        "log10_p_best_part": {"type": ["number", "null"], "description": "accounts for the search; null: too short"},
        "spans": {
            "type": "array",
            "description": "parts that carry the mark, in text order",
            "items": _object(
                {
                    "start": _WHOLE,
                    "end": {**_WHOLE, "description": "the token after the last"},
                    "characters": {
                        "type": ["array", "null"],
                        "items": _WHOLE,
                        "minItems": 2,
                        "maxItems": 2,
                        "description": "the same part as characters of the text",
                    },
                    "z": _NUMBER,
                    "log10_p": _NUMBER,
                }
            ),
        },
        "token_marks": {"type": "array", "items": {"type": "string", "enum": ["green", "red", "repeat", "none"]}},
        "pieces": {"type": ["array", "null"], "items": _TEXT},
    }
    return {**_object(always), "properties": {**always, **more}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def _asked(properties: dict[str, Any]) -> dict[str, Any]:
    one_of = [{"required": ["text"]}, {"required": ["ids"]}]
    return {"type": "object", "additionalProperties": False, "properties": properties, "oneOf": one_of}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: str | None) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(schema) if schema else {"type": "object"}}}


def _responses(schema: str | None, codes: tuple[int, ...]) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "the answer", "content": _json(schema)}}
    for code in codes:
        answers[str(code)] = {
            "description": _WHY[code],
            "content": _json("Error"),
        }
    return answers


def _get(summary: str, schema: str | None, protected: bool) -> dict[str, Any]:
    codes = (401, 403, 408, 503) if protected else (403, 408, 503)
    return {"summary": summary, "responses": _responses(schema, codes), **_security(protected)}


def _post(summary: str, asked: str, answer: str, protected: bool) -> dict[str, Any]:
    codes = tuple(code for code in _WHY if protected or code != 401)
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": _json(asked)},
        "responses": _responses(answer, codes),
        **_security(protected),
    }


def _security(protected: bool) -> dict[str, Any]:
    return {"security": [{"token": []}]} if protected else {}
