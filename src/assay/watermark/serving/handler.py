"""One request: read against the clock, checked from the outside in, answered once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .contract import ROUTES, openapi
from .deadline import Deadline, linger
from .limits import Limits
from .reading import read_batch, read_query
from .refusals import Refusal
from .wire import encoded, failure, head, log_line

if TYPE_CHECKING:
    from .server import Server

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Assay", ""
    rbufsize = 0
    server: Server

    def setup(self) -> None:
        """All bytes of a request must come within the time for them, however they are spread."""
        super().setup()
        self._limits: Limits = self.server.limits
        self._started = time.monotonic()
        self._status = 0
        self._expects = False
        self.command, self.path, self.request_version = "", "", "HTTP/1.1"
        self.rfile.close()
        self.rfile = cast(Any, Deadline.reader(self.connection, self._limits.seconds_to_read))
        self.connection.settimeout(self._limits.seconds_to_read)

    def handle(self) -> None:
        """Read, answer, close."""
        self.close_connection = True
        try:
            try:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline:
                    return
                if len(self.raw_requestline) > 65536:
                    raise Refusal(414, "The address is too long.", "Send the document in the body of a POST.")
                if self.parse_request():
                    self._reply(200, self._result())
            except TimeoutError:
                raise Refusal(
                    408,
                    f"The request did not arrive within {self._limits.seconds_to_read:g} seconds.",
                    "Send it at once, or raise the service's --read-timeout.",
                ) from None
            except (ConnectionError, EOFError):
                return
        except Refusal as refusal:
            self._refuse(refusal)
        except MemoryError:
            self._refuse(Refusal(503, "The service is short of memory.", "Send less at once."))
        except Exception as error:
            self.server.log(failure(error))
            self._refuse(
                Refusal(500, "The service failed on this request.", "Its log names the place; please report it.")
            )
        finally:
            if self._status:
                took = time.monotonic() - self._started
                self.server.log(log_line(self.client_address[0], *self._known_route(), self._status, took))

    def finish(self) -> None:
        """Let the caller read the answer before the connection is cut, even where its body was not read."""
        linger(self.connection, seconds=2.0)
        super().finish()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses: a request line or headers that it cannot read."""
        causes = {
            400: ("The request line or a header cannot be read.", "Send HTTP/1.1."),
            414: ("The address is too long.", "Send the document in the body of a POST."),
            431: ("The headers are too long or too many.", "Send fewer."),
            505: ("This version of HTTP is not spoken here.", "Send HTTP/1.1."),
        }
        self._refuse(Refusal(code if code in causes else 400, *causes.get(code, causes[400])))

    def handle_expect_100(self) -> bool:
        """The caller waits before it sends the body; it is told to go on when its headers have been accepted."""
        self._expects = True
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """The standard library's log repeats what callers sent; ours does not."""

    def _result(self) -> Any:
        path = self._route()
        methods = ROUTES.get(path)
        if methods is None:
            raise Refusal(404, "There is nothing at this address.", f"There are: {', '.join(ROUTES)}.")
        if self.command not in methods:
            raise Refusal(
                405,
                "This address does not take this method.",
                f"Use {' or '.join(methods)}.",
                {"Allow": ", ".join(methods)},
            )
        self._check_origin()
        if path != "/health" and not self.server.authorised(self.headers.get("Authorization")):
            raise Refusal(
                401,
                "The token is missing or wrong.",
                "Send the header 'Authorization: Bearer TOKEN'.",
                {"WWW-Authenticate": 'Bearer realm="assay"'},
            )
        if path == "/health":
            return {"status": "ok", "marks": len(self.server.service.names)}
        if path == "/marks":
            return {"marks": self.server.service.describe()}
        if path == "/openapi.json":
            return openapi(self._limits, protected=self.server.protected)
        read = read_query if path == "/detect" else read_batch
        body = self._body()
        query = read(body, self._limits, self.server.service.names)
        del body
        results = self.server.work(query)
        if path == "/detect/batch":
            return {"results": results}
        if "error" in results[0]:
            error = results[0]["error"]
            raise Refusal(error["status"], error["message"], error["remedy"])
        return results[0]

    def _check_origin(self) -> None:
        """A browser names the page that asks; only pages of this computer may, where nobody else can."""
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).hostname not in LOOPBACK:
            raise Refusal(403, "Requests by web pages are not answered.", "Ask from a program.")

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") is not None:
            if lengths:
                raise Refusal(
                    400, "The request has both a length and a transfer encoding.", "Send Content-Length alone."
                )
            raise Refusal(411, "A body in chunks is not taken.", "Send Content-Length.")
        if not lengths:
            raise Refusal(411, "The request does not tell the length of its body.", "Send Content-Length.")
        given = lengths[0].strip()
        if len(set(lengths)) > 1 or not (given.isascii() and given.isdigit()):
            raise Refusal(400, "Content-Length is not a number of bytes.", "Send a whole number, once.")
        length = int(given) if len(given) < 20 else 2**63
        if length > self._limits.body_bytes:
            raise Refusal(
                413,
                f"The body is larger than {self._limits.body_bytes:,} bytes.",
                "Send several requests, or raise the service's --max-body.",
            )
        kind = self.headers.get_content_type() if self.headers.get("Content-Type") else ""
        charset = (self.headers.get_content_charset() or "utf-8").lower()
        if kind != "application/json" or charset not in ("utf-8", "utf8", "us-ascii"):
            raise Refusal(415, "The body's type is not JSON in UTF-8.", "Send 'Content-Type: application/json'.")
        if self._expects:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refusal(400, "The body is shorter than Content-Length says.", "Send all of it.")
        return body

    def _reply(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        content = encoded(value)
        self._status = status
        self.connection.settimeout(self._limits.seconds_to_read)
        with contextlib.suppress(OSError):  # the caller has gone, or does not read
            self.wfile.write(head(status, len(content), headers) + (b"" if self.command == "HEAD" else content))

    def _refuse(self, refusal: Refusal) -> None:
        self._reply(refusal.status, refusal.as_dict(), refusal.headers)

    def _route(self) -> str:
        """The address without what follows a question mark; the whole of it where it does not begin with a slash."""
        return self.path.partition("?")[0]

    def _known_route(self) -> tuple[str, str]:
        """Method and address for the log, if they are ours; others could hold anything."""
        path = self._route()
        return (self.command if self.command in ("GET", "HEAD", "POST") else "-"), (path if path in ROUTES else "-")
