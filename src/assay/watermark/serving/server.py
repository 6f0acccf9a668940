"""HTTP around the service: one request a connection, everything about it bounded, nothing of it logged."""

from __future__ import annotations

import contextlib
import hmac
import socket
import sys
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any

from ...core.errors import AssayError, SettingError
from .deadline import linger
from .handler import Handler
from .reading import Query
from .refusals import busy
from .service import Service
from .wire import answer, failure, log_line

REFUSERS = 32
Log = Callable[[str], None]


class Server(ThreadingHTTPServer):
    """An HTTP server that answers detection requests; a thread a connection, one request each.

    Args:
        service: what answers.
        host: address to listen on.
        port: 0 for any free one; ``server_port`` tells it.
        token: what callers must send as ``Authorization: Bearer``; None: nothing.
        log: takes one line a request: time, peer, method and route, status and duration; no text, no key.

    Raises:
        SettingError: the address cannot be listened on.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        service: Service,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        log: Log | None = None,
    ) -> None:
        if token is not None and not (
            len(token) >= 16 and token.isascii() and token.isprintable() and " " not in token
        ):
            raise SettingError("The token is too short or has other characters; use 16 or more of letters and digits.")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.service, self.limits, self.log = service, service.limits, log or _nowhere
        self.protected = token is not None
        self._token = None if token is None else token.encode()
        self._connections = threading.BoundedSemaphore(self.limits.connections)
        self._refusers = threading.BoundedSemaphore(REFUSERS)
        self._workers = threading.BoundedSemaphore(self.limits.at_once)
        self._busy = threading.Condition()
        self._open = 0
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise SettingError(
                f"Cannot listen on {host!r}, port {port}: {error.strerror or error}. Choose another --port "
                "(0 takes any free one), or stop what listens there."
            ) from error

    @property
    def url(self) -> str:
        """Where the service is."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def server_bind(self) -> None:
        """Bind without asking a name server for our own name."""
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def authorised(self, header: str | None) -> bool:
        """Whether an ``Authorization`` header is good enough; takes the same time wherever it differs."""
        if self._token is None:
            return True
        scheme, _, given = (header or "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        return same and scheme.lower() == "bearer"

    def work(self, query: Query) -> list[dict[str, Any]]:
        """Answer a query when its turn comes.

        Raises:
            Refusal: 503 if the turn does not come in time.
        """
        if not self._workers.acquire(timeout=self.limits.seconds_to_wait):
            raise busy()
        try:
            return self.service.answer(query)
        finally:
            self._workers.release()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection if there is room for it; otherwise say so in a thread of its own."""
        if self._connections.acquire(blocking=False):
            with self._busy:
                self._open += 1
            super().process_request(request, client_address)
        elif self._refusers.acquire(blocking=False):
            threading.Thread(target=self._refuse, args=(request,), daemon=True).start()
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()
            with self._busy:
                self._open -= 1
                self._busy.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until no request is open; whether that came true."""
        with self._busy:
            return self._busy.wait_for(lambda: self._open == 0, timeout=seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no event; what else went wrong is named by its kind and place alone."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, (OSError, ValueError)):
            self.log(failure(error))

    def _refuse(self, request: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                request.settimeout(1)
                request.sendall(answer(busy()))
                linger(request, seconds=1.0)
            self.log(log_line("-", "-", "-", 503, 0.0))
        finally:
            self._refusers.release()
            self.shutdown_request(request)


def serve(server: Server, *, stop: threading.Event, seconds_to_end: float = 10.0) -> bool:
    """Answer until ``stop`` is set, then let open requests end.

    Args:
        server: listening already.
        stop: set by a signal handler or another thread.
        seconds_to_end: how long open requests may take.

    Returns:
        Whether all of them ended.
    """
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        while not stop.wait(0.2):
            if not thread.is_alive():
                raise AssayError("The server stopped by itself; its log may tell why.")
    finally:
        if thread.is_alive():
            server.shutdown()
        thread.join()
        server.socket.close()
        ended = server.wait(seconds_to_end)
        server.server_close()
    return ended


def _nowhere(line: str) -> None:
    """No log."""
