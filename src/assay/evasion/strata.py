"""Strata: the classes and groups a figure is broken down by."""

from __future__ import annotations

import numpy as np

from ..subjects.examination import Examination


def strata(examination: Examination) -> list[tuple[str, np.ndarray]]:
    """Each class and each group that has samples, with the mask of its rows: ``("class=3", [N] bool)``."""
    labels, groups = examination.data.labels, examination.data.groups
    names = examination.data.class_names
    found = [(f"class={names[k]}", labels == k) for k in range(len(names)) if bool((labels == k).any())]
    if groups is not None:
        found += [(f"group={group}", groups == group) for group in sorted(set(groups.tolist()))]
    return found
