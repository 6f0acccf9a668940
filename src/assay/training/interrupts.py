"""Ctrl-C and termination are noted, and obeyed between two steps: no update is ever half made."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


class Interrupts:
    """Inside, SIGINT and SIGTERM set a flag; a second one stops at once with KeyboardInterrupt.

    One inside another tells the outer one too, so that a signal that comes when the inner work is all but done
    stops the work around it. Outside the main thread, where Python delivers no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.noted = False
        self._earlier: dict[int, Any] = {}

    def requested(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop; every process gets the same answer."""
        if accelerator.num_processes == 1:
            return self.noted
        flag = torch.tensor([float(self.noted)], device=accelerator.device)
        return bool(accelerator.reduce(flag, "sum") > 0)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
        around = getattr(self._earlier.get(number), "__self__", None)
        if isinstance(around, Interrupts) and not around.noted:
            around._note(number, frame)
