"""States of torch's random generators, to make a pass again with the same draws."""

from __future__ import annotations

import torch
from torch import Tensor


def draws_of(device: torch.device) -> list[Tensor]:
    """The states of torch's random generators that a pass on this device can draw from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def redraw(states: list[Tensor], device: torch.device) -> None:
    """Put the generators back, so that the next pass draws the same numbers."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
