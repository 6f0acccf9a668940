"""The Square step rule: random square patches, judged by the model's answers alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors.norms import expand, norm, project
from ..tensors.random import bits, signs, uniform
from .engine import Observation, Space, Work

_DRAWS = 64
_FRACTIONS = ((10, 1), (50, 2), (200, 4), (500, 8), (1000, 16), (2000, 32), (4000, 64), (6000, 128), (8000, 256))


def patch_side(step: int, height: int, width: int, initial: float, odd: bool) -> int:
    """Side of the patch: round(sqrt(p H W)), p halved at 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000 queries."""
    divisor = next((by for until, by in _FRACTIONS if step <= until), 512)
    side = round(math.sqrt(initial / divisor * height * width))
    if odd:
        side = max(3, side) // 2 * 2 + 1
    return min(max(side, 1), height, width)


@dataclass(frozen=True)
class Patches:
    r"""Random search with square patches (Andriushchenko et al., arXiv 1912.00049).

    The start is vertical stripes (Linf) or tiled two-lobe patterns (L2, L1). A proposal
    changes one window of each sample's best point: Linf adds ±2ε a channel; L2 and L1
    move the norm of a second window into the first. A proposal is kept if the objective
    rises. Windows and signs come from the sample's own stream, and every position in
    the image can be drawn.

    Args:
        queries: network calls a sample, the start included.
        initial: share of the image in the first patch.
    """

    queries: int
    initial: float = 0.8

    needs_gradient = False
    stays_inside = True

    @property
    def evaluations(self) -> int:
        """One a query."""
        return self.queries

    def begin(self, work: Work, space: Space) -> None:
        """Stripes or tiles."""
        centres = _as_images(work.centres)
        if space.threat.norm == "linf":
            ways = signs(work.seeds, (centres.shape[1], 1, centres.shape[3]))
            start = centres + space.threat.eps * ways
        else:
            change = self._tiles(work, centres, space.threat.norm)
            length = norm(change, space.threat.norm).clamp_min(1e-12)
            start = centres + change * expand(space.threat.eps / length, change)
        work.points = space.project(start.reshape(work.centres.shape), work.centres)
        work.state = {
            "best_points": work.points,
            "best_value": work.points.new_full((len(work),), -torch.inf),
            "words": work.points.new_zeros(len(work), 0),
        }

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """Keep the proposal where it helped, propose again."""
        state = work.state
        better = seen.value > state["best_value"]
        state["best_value"] = torch.where(better, seen.value, state["best_value"])
        state["best_points"] = torch.where(expand(better, work.points), work.points, state["best_points"])
        best, centres = _as_images(state["best_points"]), _as_images(work.centres)
        channels, height, width = best.shape[1:]
        words = self._words(work, step, channels)
        linf = space.threat.norm == "linf"
        side = patch_side(step, height, width, self.initial, odd=not linf)
        top, left = _place(words[:, 0], height - side + 1), _place(words[:, 1], width - side + 1)
        if linf:
            window = _window(top, left, side, height, width)
            ways = torch.where(words[:, 5:] < 0.5, -1.0, 1.0)[:, :, None, None]
            proposal = torch.where(window, best + 2 * space.threat.eps * ways, best)
        else:
            second = (_place(words[:, 2], height - side + 1), _place(words[:, 3], width - side + 1))
            proposal = self._exchange(best, centres, (top, left), second, side, words[:, 4:], space)
        work.points = space.project(proposal.reshape(work.centres.shape), work.centres)

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The best point of each row."""
        return work.state["best_points"]

    def _words(self, work: Work, step: int, channels: int) -> Tensor:
        """This step's uniform draws [B, 5 + channels], made for many steps at once."""
        width = 5 + channels
        place = step % _DRAWS
        if place == 0:
            work.state["words"] = uniform(work.seeds, (_DRAWS * width,), stream=2 + step // _DRAWS)
        return work.state["words"][:, place * width : (place + 1) * width]

    def _tiles(self, work: Work, centres: Tensor, kind: str) -> Tensor:
        """5 x 5 tiles of the two-lobe pattern with random signs: [B, C, H, W]."""
        count, channels, height, width = centres.shape
        side = max(1, min(height, width) // 5)
        rows, columns = max(1, height // side), max(1, width // side)
        ways = signs(work.seeds, (channels, rows, columns))
        turned = bits(work.seeds, 1, 1)[:, :, None, None] < 0
        lobes = _two_lobes(side, kind).to(centres)
        tiles = torch.where(turned, lobes.T, lobes)[:, :, None, :, None, :]
        filled = (ways[:, :, :, None, :, None] * tiles).reshape(count, channels, rows * side, columns * side)
        change = torch.zeros_like(centres)
        change[:, :, : rows * side, : columns * side] = filled
        return change

    def _exchange(
        self,
        best: Tensor,
        centres: Tensor,
        first: tuple[Tensor, Tensor],
        second: tuple[Tensor, Tensor],
        side: int,
        words: Tensor,
        space: Space,
    ) -> Tensor:
        """Zero one window, and give its norm and what the budget has left to the other."""
        kind, eps = space.threat.norm, space.threat.eps
        channels, height, width = best.shape[1:]
        change = best - centres
        here = _gather(change, *first, side)
        both = _window(*first, side, height, width) | _window(*second, side, height, width)
        in_both = torch.where(both, change, torch.zeros_like(change)).flatten(2)
        lobes = _two_lobes(side, kind).to(best)
        pattern = torch.where(words[:, :1, None] < 0.5, lobes, lobes.T)[:, None]
        pattern = pattern * torch.where(words[:, 1:] < 0.5, -1.0, 1.0)[:, :, None, None]
        power = 2 if kind == "l2" else 1
        size_here = here.abs().pow(power).sum((2, 3), keepdim=True, dtype=torch.float64) ** (1 / power)
        mixed = pattern + here / size_here.clamp_min(1e-12).to(here.dtype)
        mixed = mixed / (mixed.abs().pow(power).sum((2, 3), keepdim=True) ** (1 / power)).clamp_min(1e-12)
        spare = (eps**power - norm(change, kind).pow(power)).clamp_min(0)[:, None] / channels
        gain = (spare + in_both.abs().pow(power).sum(2)) ** (1 / power)
        change = _scatter(change, *second, side, torch.zeros_like(here))
        change = _scatter(change, *first, side, mixed * gain[:, :, None, None])
        if kind == "l2":
            length = norm(change, "l2").clamp_min(1e-12)
            return centres + change * expand(eps / length, change)
        return project(centres + change, centres, eps * (1 - 1e-6), "l1", space.bounds)


def _as_images(points: Tensor) -> Tensor:
    """Inputs as [B, C, H, W]; anything without height and width becomes one row."""
    return points if points.ndim == 4 else points.reshape(len(points), 1, 1, -1)


def _place(draw: Tensor, count: int) -> Tensor:
    return (draw * count).long().clamp_max(count - 1)


def _window(top: Tensor, left: Tensor, side: int, height: int, width: int) -> Tensor:
    """Mask [B, 1, H, W] of a window a sample."""
    rows = torch.arange(height, device=top.device)[None, :]
    columns = torch.arange(width, device=top.device)[None, :]
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)
    in_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _index(images: Tensor, top: Tensor, left: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    span = torch.arange(side, device=images.device)
    return (
        torch.arange(len(images), device=images.device)[:, None, None, None],
        torch.arange(images.shape[1], device=images.device)[None, :, None, None],
        (top[:, None] + span)[:, None, :, None],
        (left[:, None] + span)[:, None, None, :],
    )


def _gather(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    return images[_index(images, top, left, side)]


def _scatter(images: Tensor, top: Tensor, left: Tensor, side: int, values: Tensor) -> Tensor:
    changed = images.clone()
    changed[_index(images, top, left, side)] = values
    return changed


@functools.lru_cache(maxsize=64)
def _two_lobes(side: int, kind: str) -> Tensor:
    """A pattern of unit norm whose upper half is positive and lower half negative: [side, side].

    Each half is M(r, c) = Σ_{k=d+1}^{K} 1/k^e, d the Chebyshev distance to the half's centre; e = 2 for L2, 4 for L1.
    """
    upper = side // 2
    pattern = torch.zeros(side, side, dtype=torch.float64)
    if upper:
        pattern[:upper] = _hill(upper, side, kind)
    pattern[upper:] = -_hill(side - upper, side, kind)
    size = pattern.square().sum().sqrt() if kind == "l2" else pattern.abs().sum()
    return (pattern / size).to(torch.float32)


def _hill(rows: int, columns: int, kind: str) -> Tensor:
    middle_row, middle_column = rows // 2, columns // 2
    reach = max(middle_row, middle_column) + 1
    exponent = 2 if kind == "l2" else 4
    terms = torch.arange(1, reach + 1, dtype=torch.float64).pow(-exponent)
    tail = terms.flip(0).cumsum(0).flip(0)
    away = torch.maximum(
        (torch.arange(rows) - middle_row).abs()[:, None], (torch.arange(columns) - middle_column).abs()[None, :]
    )
    hill = tail[away.clamp_max(reach - 1)]
    size = hill.square().sum().sqrt() if kind == "l2" else hill.abs().sum()
    return hill / size
