"""Why a request is not answered: a status, a cause and a remedy, and never what was in the request's secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODES = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    411: "length-required",
    413: "content-too-large",
    414: "uri-too-long",
    415: "unsupported-media-type",
    422: "unprocessable-content",
    431: "header-fields-too-large",
    500: "internal-error",
    503: "service-unavailable",
    505: "http-version-not-supported",
}


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP, one of ``CODES``.
        cause: what is wrong.
        remedy: what to do about it.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, cause: str, remedy: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {cause}")
        self.status, self.cause, self.remedy = int(status), cause, remedy
        self.headers = dict(headers or {})

    def as_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "error": {
                "status": self.status,
                "code": CODES[self.status],
                "message": self.cause,
                "remedy": self.remedy,
            }
        }


def unprocessable(cause: str, remedy: str) -> Refusal:
    """422: the JSON can be read, and does not say what is needed."""
    return Refusal(422, cause, remedy)


def busy() -> Refusal:
    """503: too much at once."""
    return Refusal(
        503,
        "The service is busy with earlier requests.",
        "Ask again in a second, or raise the service's --connections or --at-once.",
        {"Retry-After": "1"},
    )
