"""Threat models: what is accepted, and what holds."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import SettingError
from assay.search.threat import ThreatModel


@pytest.mark.parametrize("eps", [-0.1, float("inf"), float("nan"), "eight", None, True])
def test_budgets_that_are_none_are_refused(eps: object) -> None:
    with pytest.raises(SettingError, match=r"ThreatModel\.eps"):
        ThreatModel("linf", eps)


def test_a_misspelt_norm_gets_a_hint() -> None:
    with pytest.raises(SettingError, match="Did you mean 'linf'"):
        ThreatModel("lnf", 0.1)


def test_fractions_and_capitals() -> None:
    assert ThreatModel("Linf", "8/255") == ThreatModel("linf", 8 / 255)


def test_holds_allows_rounding_and_nothing_more() -> None:
    centres = torch.full((4, 1, 2, 2), 0.5)
    points = centres.clone()
    points[0] += 0.1
    points[1] += 0.1 + 1e-5
    points[2] += 0.6
    points[3] += float("nan")
    assert ThreatModel("linf", 0.1).holds(points, centres, (0.0, 1.0)).tolist() == [True, False, False, False]
    assert ThreatModel("linf", 1.0).holds(points, centres, (0.0, 1.0)).tolist() == [True, True, False, False]
