"""Lanes: the same answer bit for bit, however the rows come."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.subjects.lanes import ROWS, in_lanes, lane_size


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "linear": (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8)),
            "wide": (nn.Sequential(nn.Flatten(), nn.Linear(192, 300), nn.ReLU(), nn.Linear(300, 10)), (3, 8, 8)),
            "convolution": (
                nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
                (3, 12, 12),
            ),
        }


@pytest.mark.parametrize("name", ["linear", "wide", "convolution"])
def test_a_rows_answer_does_not_depend_on_the_batch(name: str) -> None:
    network, shape = networks()[name]
    points = torch.rand(130, *shape, generator=torch.Generator().manual_seed(0))

    def both(part: Tensor) -> tuple[Tensor, Tensor]:
        leaf = part.detach().requires_grad_(True)
        output = network(leaf)
        return output.detach(), torch.autograd.grad(output.logsumexp(1).sum(), leaf)[0]

    whole = in_lanes(both, points)
    for size in (1, 5, 8, 37, 64):
        parts = [in_lanes(both, part) for part in points.split(size)]
        for place in (0, 1):
            assert torch.equal(torch.cat([part[place] for part in parts]), whole[place])
    order = torch.randperm(130, generator=torch.Generator().manual_seed(1))
    assert torch.equal(in_lanes(both, points[order])[1], whole[1][order])


@given(st.integers(1, 70), st.integers(1, 3))
def test_lanes_are_multiples_of_four_and_rows_keep_their_order(count: int, extra: int) -> None:
    points = torch.arange(float(count))[:, None].expand(count, 64 * 32 * 32 // 8)
    others = [torch.arange(count) + place for place in range(extra)]
    seen = []

    def call(part: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(part))
        assert all(len(row) == len(part) for row in rows)
        return part[:, 0], sum(rows)

    first, second = in_lanes(call, points, *others)
    assert first.tolist() == list(range(count))
    assert second.tolist() == [extra * row + sum(range(extra)) for row in range(count)]
    assert all(length % ROWS == 0 and length <= lane_size(points) for length in seen)


def test_a_large_input_still_fills_one_lane_of_four() -> None:
    assert lane_size(torch.zeros(1, 3, 512, 512)) == ROWS
