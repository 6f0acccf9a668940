"""Reading from a connection against the clock, and leaving it so that the answer is not lost."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_DRAINED = 64 * 2**20


class Deadline(io.RawIOBase):
    """The bytes of a connection until a deadline; a caller that sends one byte a second does not move it.

    Args:
        connection: a connected socket.
        seconds: from now.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._end = time.monotonic() + seconds

    @classmethod
    def reader(cls, connection: socket.socket, seconds: float) -> io.BufferedReader:
        """A buffered reader; it raises TimeoutError when the time is over."""
        return io.BufferedReader(cls(connection, seconds))

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there, and wait for the first of it at most until the deadline."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def linger(connection: socket.socket, *, seconds: float) -> None:
    """Say that no more will come, and read for a while what the other side still sends.

    A connection that is closed with unread bytes is reset, and the answer that was sent is lost on its way.
    """
    end, drained = time.monotonic() + seconds, 0
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while drained < MOST_DRAINED and (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            read = len(connection.recv(2**16))
            if not read:
                return
            drained += read
