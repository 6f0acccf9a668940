"""Shadow models as one searching model: every step draws a few of them for each record and asks only those."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ...subjects.convolving import quicken_gradients
from ...subjects.lanes import ROWS, in_lanes
from ...subjects.target import SearchModel, Target
from ...tensors.random import bits
from . import objectives

Aim = Callable[[Tensor, Tensor], Tensor]

_CHANNELS_LAST_PIXELS = 16 * 16
_AT_ONCE = 2**15  # pixels of one call
_FEWEST, _MOST = 32, 512  # rows of one call


class Copies:
    """Private searching copies of models, made when first asked for; those never drawn are never touched.

    Args:
        models: by number.
        pixels: H W of an image.
    """

    def __init__(self, models: Mapping[int, Target], pixels: int) -> None:
        self.models, self.pixels = models, pixels
        self._copies: dict[int, SearchModel] = {}

    def __getitem__(self, model: int) -> SearchModel:
        if model not in self._copies:
            self._copies[model] = self._made(self.models[model])
        return self._copies[model]

    def rows(self, model: int) -> int:
        """Rows of one call on a CPU: convolutions are fastest while their activations stay in cache."""
        module = self[model].module
        if isinstance(module, nn.Module) and any(isinstance(part, nn.Conv2d) for part in module.modules()):
            return max(_FEWEST, _AT_ONCE // self.pixels // ROWS * ROWS)
        return _MOST

    def _made(self, target: Target) -> SearchModel:
        copy = target.search_copy()
        if isinstance(copy.module, nn.Module) and target.device.type == "cpu":
            quicken_gradients(copy.module)
            if self.pixels >= _CHANNELS_LAST_PIXELS:
                copy.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the copy's images
        return copy

    def passes(self) -> tuple[int, int]:
        """Forward and backward passes of all copies so far."""
        made = self._copies.values()
        return sum(copy.forward_passes for copy in made), sum(copy.backward_passes for copy in made)

    def broken_gradients(self) -> int:
        """Gradients that held NaN or infinity so far."""
        return sum(copy.broken_gradients for copy in self._copies.values())


def draw(in_mask: Tensor, seeds: Tensor, step: int, drawn: tuple[int, int]) -> Tensor:
    """The models of one step: the first of each kind in a random permutation of all models.

    A permutation depends on its seed and the step alone, so a record meets the same models among others as alone,
    each choice has the same chance, and few models together serve many records.

    Args:
        in_mask: which models saw which record [M, T] bool.
        seeds: of as many permutations [P] int64.
        step: number of the step.
        drawn: models a record that saw it, and that did not.

    Returns:
        Which models each permutation draws for each record [M, T, P] bool.
    """
    order = bits(seeds, len(in_mask), step).argsort(dim=1, stable=True)
    inside = in_mask[order]
    early = torch.where(inside, inside.cumsum(1) <= drawn[0], (~inside).cumsum(1) <= drawn[1])
    chosen = torch.empty_like(early).scatter_(1, order[..., None].expand_as(early), early)
    return chosen.permute(1, 2, 0)


class Ensemble:
    """What the stepping core differentiates through; one object serves one search, a call is a step.

    ``reference`` [B, 2] holds each row's record and the permutation that draws for it. The output [B, 1] is the
    row's loss over the models drawn, the value is what the objective makes of each model's answer, added up: with
    ``Ensemble.objective`` the loss with its sign changed.

    Args:
        copies: the models.
        in_mask: which models saw which record [M, T] bool.
        labels: the records' classes [T].
        others: another class for each [T].
        loss: name of the loss, see ``objectives``.
        aims: what answers of IN and OUT models are pulled to.
        drawn: models a step and record that saw it, and that did not.
        mean: average each kind rather than add up.
        seeds: of the permutations that draw [P] int64.
    """

    def __init__(
        self,
        copies: Copies,
        in_mask: Tensor,
        labels: Tensor,
        others: Tensor,
        *,
        loss: str,
        aims: tuple[float, float],
        drawn: tuple[int, int],
        mean: bool,
        seeds: Tensor,
    ) -> None:
        self.copies, self.in_mask, self.drawn, self.seeds = copies, in_mask, drawn, seeds
        self.reference = torch.stack([labels, torch.zeros_like(labels), others], 1)
        self.paired = loss == "kl"
        self.loss = None if self.paired else objectives.resolve(loss, aims)
        weights = [1 / max(1, count) if mean else 1.0 for count in (drawn[1], drawn[0])]
        self.weights = torch.tensor(weights, device=in_mask.device)
        self.alike = set(weights) == {1.0}
        self.step = 0

    def objective(self, logits: Tensor, reference: Tensor, step: int) -> Tensor:
        """The loss of one model's answers, pushed up with its sign changed: [b, C], [b, ...] -> [b]."""
        if self.loss is None:
            return (logits * reference).sum(1)
        return -self.loss(logits, reference)

    def value_and_gradient(self, points: Tensor, objective: Aim, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [B, 1], value [B] and its gradient [B, ...] over the models drawn in this step.

        Cost: 1 forward and 1 backward pass for each row and model drawn, and for kl one more forward pass.
        """
        calls = self._calls(reference)
        value, gradient = points.new_zeros(len(points)), torch.zeros_like(points)
        asked = self._cotangents(points, reference, calls, value) if self.paired else None
        for place, (model, rows) in enumerate(calls):
            known = asked[place] if asked is not None else self._known(model, reference[rows, 0])
            _, part, slope = self.copies[model].value_and_gradient(points[rows], objective, known)
            if asked is None:
                weights = self.weights[known[:, 1]]
                value.index_add_(0, rows, part * weights)
                slope = slope if self.alike else slope * weights.reshape(-1, *[1] * (slope.ndim - 1))
            gradient.index_add_(0, rows, slope)
        return -value[:, None], value, gradient

    def logits(self, points: Tensor) -> Tensor:
        """Not of use here: the answer depends on the row's record."""
        raise NotImplementedError

    def _calls(self, reference: Tensor) -> list[tuple[int, Tensor]]:
        """The models of this step, each with the rows it is asked for; few rows a call on a CPU."""
        chosen = draw(self.in_mask, self.seeds, self.step, self.drawn)
        self.step += 1
        wanted = chosen[:, reference[:, 0], reference[:, 1]]
        used = wanted.any(1).nonzero()[:, 0].tolist()
        asked = [(model, wanted[model].nonzero()[:, 0]) for model in used]
        if reference.device.type != "cpu":
            return asked
        return [(model, part) for model, rows in asked for part in rows.split(self.copies.rows(model))]

    def _known(self, model: int, records: Tensor) -> Tensor:
        known = self.reference[records].clone()
        known[:, 1] = self.in_mask[model, records]
        return known

    def _cotangents(
        self, points: Tensor, reference: Tensor, calls: list[tuple[int, Tensor]], value: Tensor
    ) -> list[Tensor]:
        """The gradient of the divergence of paired answers by the answers, for each call; its value is put down."""
        pairs = self.drawn[0]
        answers, taken, places = (
            points.new_empty(0),
            torch.zeros(len(points), 2, dtype=torch.int64, device=points.device),
            [],
        )
        for model, rows in calls:
            logits = self.copies[model].logits(points[rows])
            if not answers.numel():
                answers = logits.new_zeros(len(points), 2, pairs, logits.shape[1])
            side = self.in_mask[model, reference[rows, 0]].long()
            place = taken[rows, side]
            taken[rows, side] += 1
            answers[rows, side, place] = logits
            places.append((rows, side, place))

        def compared(part: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = part.detach().requires_grad_(True)
                apart = -objectives.divergence(leaf[:, 1].flatten(0, 1), leaf[:, 0].flatten(0, 1))
                total = apart.reshape(len(part), pairs).sum(1) * self.weights[0]
                (slope,) = torch.autograd.grad(total.sum(), leaf)
            return total.detach(), slope

        found, slopes = in_lanes(compared, answers)
        value.copy_(found)
        return [slopes[place] for place in places]
