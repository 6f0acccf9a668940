"""What one request may cost the service."""

from __future__ import annotations

from ...core.settings import option, settings


@settings
class Limits:
    """Limits of the service; a request beyond one is refused, and its answer names the limit.

    Memory is at most about ``connections`` times ten times ``body_bytes``.
    """

    body_bytes: int = option(default=4 * 2**20, help="largest body of a request", at_least=64, at_most=2**30)
    documents: int = option(default=1000, help="documents in a batch", at_least=1, at_most=1_000_000)
    tokens: int = option(default=100_000, help="tokens in a document", at_least=1, at_most=100_000_000)
    depth: int = option(default=8, help="nesting of the JSON", at_least=4, at_most=64)
    seconds_to_read: float = option(default=10.0, help="time for a request to arrive", above=0, at_most=3600)
    seconds_to_wait: float = option(default=10.0, help="time for earlier requests to end", at_least=0, at_most=3600)
    connections: int = option(default=64, help="connections at once", at_least=1, at_most=4096)
    at_once: int = option(default=2, help="detections at once", at_least=1, at_most=1024)
