"""The backends by name: each turns a batch into a run, from which norms, gradients and weighted sums are read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from .capture import Layers
from .dense import batched, loop
from .losses import SampleLosses

BACKENDS = ("layers", "layers-channels-last", "vmap", "loop")


class Run(Protocol):
    """Gradients of the samples of one batch, in whatever form they are held."""

    losses: Tensor

    def gradients(self) -> dict[str, Tensor]:
        """name -> [B, *shape]."""
        ...

    def squares(self) -> Tensor:
        """[B, P]."""
        ...

    def weighted(self, factors: Tensor) -> dict[str, Tensor]:
        """Σ_i f_ip g_ip by parameter; factors [B, P]."""
        ...


Backend = Callable[[Tensor, Tensor], Run]


def backend_for(name: str, model: nn.Module, losses: SampleLosses, views: bool) -> Backend:
    """The backend of that name for one module; NotYetSupported if it cannot run it."""
    if name in ("vmap", "loop"):
        return partial(batched if name == "vmap" else loop, model, losses, views=views)
    return partial(Layers(model).run, losses, views=views, channels_last=name.endswith("channels-last"))
