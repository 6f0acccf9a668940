"""How fast a corpus is read: bytes, tokens a second and the time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from .wording import short


class Speed:
    """Bytes, tokens a second and the time left, on a terminal; what was reached, at the end.

    Args:
        total: bytes of the corpus; None: not known.
        enabled: whether anything is shown.
    """

    def __init__(self, total: int | None, *, enabled: bool) -> None:
        self.total, self.enabled, self.tokens, self._before = total, enabled, 0, 0
        self._bars: Any = None
        self._task: Any = None
        self._began = time.monotonic()
        self.seconds = 0.0

    def __enter__(self) -> Speed:
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("scanning"),
                BarColumn(),
                DownloadColumn(),
                TextColumn("{task.fields[speed]}", markup=False),
                TextColumn("elapsed"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
            self._task = self._bars.add_task("", total=self.total, speed="")
        return self

    def show(self, size: int, tokens: int) -> None:
        """``size`` more bytes were read, and ``tokens`` tokens are done in all."""
        self.tokens, self.seconds = tokens, time.monotonic() - self._began
        if self._bars is not None:
            self._bars.update(self._task, advance=size, speed=f"{short(tokens / max(self.seconds, 1e-9))} tokens/s")

    def words(self) -> str:
        """How fast it was."""
        return f"{self.seconds:.1f} s, {short(self.tokens / max(self.seconds, 1e-9))} tokens a second."

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()
