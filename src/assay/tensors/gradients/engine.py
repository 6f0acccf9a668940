"""Losses and gradients of single samples, their norms, and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...core.errors import InputError, NotYetSupported, SettingError, did_you_mean
from .backends import BACKENDS, Backend, Run, backend_for
from .checks import check_module, trained_parameters
from .choice import choose
from .draws import draws_of, redraw
from .losses import SampleLosses
from .values import ClippedSum, SampleLoss, SampleNorms


class PerSample:
    r"""Gradients g_i = ∂ℓ(f(x_i), y_i)/∂θ of single samples, their norms, and Σ_i f_i g_i.

    Backends, equal up to rounding:

    - ``"loop"``: one sample after the other by autograd; the reference.
    - ``"vmap"``: ``torch.func``; any module it can run.
    - ``"layers"``: one forward and one backward pass for the whole batch, for modules made
      of Linear, Conv1d to Conv3d, Embedding, LayerNorm, GroupNorm and layers without
      parameters (see :mod:`.capture`); ``"layers-channels-last"`` is the same with images stored
      channels last.
    - ``"auto"``: the fastest of these that can run the module, found by timing them on the
      first batch. ``chosen`` then names it; set it beforehand to skip the choice (a resumed
      training should: backends differ in the last bits).

    The model must return one tensor with one row a sample. Its ``.grad`` fields, mode, hooks and
    flags are left alone. Layers that mix samples are refused (:func:`check_module`).

    Args:
        model: any module; parameters with ``requires_grad`` take part.
        loss: of one sample, ``(outputs [1, ...], labels [1, ...]) -> [1] or scalar``.
        backend: see above.
        microbatch: how many samples are in memory at a time; None: all. ``clipped_sum`` then needs
            two passes for batches that are larger, with the same random draws in both.
        views: inputs are [B, V, ...]; the model sees B·V rows, the loss the outputs [1, V, ...] of one
            sample, and a sample's gradient is that of its loss over all its views.

    Raises:
        SettingError: unknown backend, microbatch < 1.
        ModelError, Unsupported: nothing to train, or a layer mixes samples.
        NotYetSupported: the backend asked for cannot run this module.
        InputError: a loss or a gradient is not finite.

    >>> import torch.nn.functional as F
    >>> model = nn.Linear(2, 2, bias=False)
    >>> engine = PerSample(model, F.cross_entropy, backend="layers")
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> engine.gradients(x, y)["weight"].shape
    torch.Size([2, 2, 2])
    >>> clipped = engine.clipped_sum(x, y, lambda norms: (0.1 / norms.total).clamp(max=1))
    >>> bool(clipped.gradients["weight"].norm() <= 0.2)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        loss: SampleLoss,
        *,
        backend: str = "auto",
        microbatch: int | None = None,
        views: bool = False,
    ) -> None:
        if backend != "auto" and backend not in BACKENDS:
            known = ["auto", *BACKENDS]
            raise SettingError(f"Backend {backend!r} is not known.{did_you_mean(backend, known)}")
        if microbatch is not None and microbatch < 1:
            raise SettingError(f"microbatch is {microbatch}; allowed: 1 or more, or None for the whole batch.")
        check_module(model)
        self.model, self.loss, self.backend = model, loss, backend
        self.microbatch, self.views = microbatch, views
        self.chosen: str | None = None if backend == "auto" else backend
        self._losses = SampleLosses(loss)
        self._ready: dict[str, Backend] = {}
        self._trained: tuple[int, ...] = ()

    def gradients(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """g_i for every parameter: name -> [B, *shape]. Memory: B times the model.

        Args:
            inputs: [B, ...], or [B, V, ...] with views.
            labels: [B, ...].
        """
        parts = []
        for x, y in self._microbatches(inputs, labels):
            run = self._run(x, y)
            part = run.gradients()
            squares = torch.stack([value.flatten(1).square().sum(1) for value in part.values()], 1)
            _refuse_non_finite(squares, run.losses)
            parts.append(part)
        if not parts:
            return {name: value.new_zeros((0, *value.shape)) for name, value in self._parameters().items()}
        return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def norms(self, inputs: Tensor, labels: Tensor) -> SampleNorms:
        """||g_i||² by parameter, and the losses; arguments as for :meth:`gradients`."""
        runs = (self._run(x, y) for x, y in self._microbatches(inputs, labels))
        return self._norms([(run.squares(), run.losses) for run in runs])

    def clipped_sum(self, inputs: Tensor, labels: Tensor, weigh: Callable[[SampleNorms], Tensor]) -> ClippedSum:
        """Σ_i f_i g_i with factors made from all norms of the batch.

        Args:
            inputs: [B, ...], or [B, V, ...] with views.
            labels: [B, ...].
            weigh: called once, with the norms of the whole batch; returns f [B], or [B, P] to weigh every
                parameter by itself.
        """
        parts = self._microbatches(inputs, labels)
        runs, found, draws = [], [], []
        for x, y in parts:
            draws.append(draws_of(x.device))
            run = self._run(x, y)
            found.append((run.squares(), run.losses))
            if len(parts) == 1:
                runs.append(run)
        norms = self._norms(found)
        factors = self._factors(weigh(norms), norms)
        total = {name: torch.zeros_like(value) for name, value in self._parameters().items()}
        if runs:
            total = runs[0].weighted(factors)
        elif parts:
            for (x, y), part, before in zip(parts, factors.split(len(parts[0][0])), draws, strict=True):
                redraw(before, x.device)
                for name, value in self._run(x, y).weighted(part).items():
                    total[name] += value
        return ClippedSum(total, norms)

    def _parameters(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in trained_parameters(self.model).items()}

    def _microbatches(self, inputs: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        if len(inputs) != len(labels):
            raise InputError(f"There are {len(inputs)} inputs and {len(labels)} labels; both need one row a sample.")
        if self.views and inputs.ndim < 2:
            raise InputError(f"With views, inputs are [B, V, ...]; these have shape {list(inputs.shape)}.")
        if not len(inputs):
            return []
        size = self.microbatch or len(inputs)
        return list(zip(inputs.detach().split(size), labels.split(size), strict=True))

    def _run(self, inputs: Tensor, labels: Tensor) -> Run:
        with torch.enable_grad():
            if self.chosen is None:
                self.chosen = choose(self.model, self._losses, inputs, labels, self.views)
            try:
                return self._backend(self.chosen)(inputs, labels)
            except NotYetSupported:
                if self.backend != "auto" or not self.chosen.startswith("layers"):
                    raise
                self.chosen = "vmap"
                return self._backend("vmap")(inputs, labels)

    def _backend(self, name: str) -> Backend:
        trained = tuple(map(id, trained_parameters(self.model).values()))
        if trained != self._trained:  # parameters were frozen, thawed or replaced
            self._ready, self._trained = {}, trained
        if name not in self._ready:
            self._ready[name] = backend_for(name, self.model, self._losses, self.views)
        return self._ready[name]

    def _norms(self, found: list[tuple[Tensor, Tensor]]) -> SampleNorms:
        parameters = self._parameters()
        if not found:
            some = next(iter(parameters.values()))
            return SampleNorms(tuple(parameters), some.new_zeros(0, len(parameters)), some.new_zeros(0))
        squares = torch.cat([squares for squares, _ in found])
        losses = torch.cat([losses for _, losses in found])
        _refuse_non_finite(squares, losses)
        return SampleNorms(tuple(parameters), squares, losses)

    @staticmethod
    def _factors(factors: Tensor, norms: SampleNorms) -> Tensor:
        if factors.shape not in (norms.losses.shape, norms.squares.shape):
            raise InputError(
                f"weigh returned factors of shape {list(factors.shape)}; allowed: [B] = {list(norms.losses.shape)} "
                f"or [B, P] = {list(norms.squares.shape)}."
            )
        factors = factors.detach().to(norms.squares.dtype)
        return factors[:, None].expand_as(norms.squares) if factors.ndim == 1 else factors


def per_sample_gradients(
    model: nn.Module, loss_per_sample: SampleLoss, inputs: Tensor, labels: Tensor, backend: str = "auto"
) -> dict[str, Tensor]:
    """Gradients of single samples, name -> [B, *shape]: :meth:`PerSample.gradients` for one call.

    >>> import torch.nn.functional as F
    >>> x, y = torch.ones(4, 3), torch.zeros(4, dtype=torch.long)
    >>> found = per_sample_gradients(nn.Linear(3, 2), F.cross_entropy, x, y)
    >>> {name: tuple(value.shape) for name, value in found.items()}
    {'weight': (4, 2, 3), 'bias': (4, 2)}
    """
    return PerSample(model, loss_per_sample, backend=backend).gradients(inputs, labels)


def _refuse_non_finite(squares: Tensor, losses: Tensor) -> None:
    if bool((squares.sum() + losses.sum()).isfinite()):
        return
    loss, gradient = ~losses.isfinite(), ~squares.sum(1).isfinite()
    bad = int((loss | gradient).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(losses)} samples have a loss or a gradient that is not finite ({int(loss.sum())} losses, "
            f"{int(gradient.sum())} gradients; a norm past the range of {squares.dtype} counts). Look for NaN or huge "
            "values in the inputs, a learning rate that is too high, or a logarithm or division by 0 in the loss."
        )
