"""Strata: the classes and groups a figure is broken down by."""

from __future__ import annotations

import numpy as np

from .examination import Examination


def strata(examination: Examination, count: int | None = None) -> list[tuple[str, np.ndarray]]:
    """Each class and each group that has samples, with the mask of its rows: ``("class=3", [n] bool)``.

    Args:
        count: look at the first so many samples; default: all.
    """
    classes = [(f"class={name}", rows) for name, rows in by_class(examination, count)]
    return classes + [(f"group={name}", rows) for name, rows in by_group(examination, count)]


def by_class(examination: Examination, count: int | None = None) -> list[tuple[str, np.ndarray]]:
    """Each class that has samples among the first ``count``, in the order of the classes: ``("3", [n] bool)``."""
    labels, names = examination.data.labels[:count], examination.data.class_names
    return [(str(names[k]), labels == k) for k in range(len(names)) if bool((labels == k).any())]


def by_group(examination: Examination, count: int | None = None) -> list[tuple[str, np.ndarray]]:
    """Each group that has samples among the first ``count``, in alphabetical order; none where the data name none."""
    if examination.data.groups is None:
        return []
    groups = examination.data.groups[:count]
    return [(str(group), groups == group) for group in sorted(set(groups.tolist()))]
