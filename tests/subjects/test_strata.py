from __future__ import annotations

import numpy as np
from torch import nn

from assay.data.dataset import Dataset
from assay.subjects.examination import Examination
from assay.subjects.strata import by_class, by_group, strata
from assay.subjects.target import Target
from assay.subjects.tasks import Classification


def examination(groups: list[str] | None) -> Examination:
    data = Dataset.from_arrays(
        np.zeros((4, 1, 2, 2), np.float32), [2, 0, 2, 0], class_names=("p", "q", "r"), groups=groups, layout="NCHW"
    )
    return Examination(target=Target(nn.Flatten(), task=Classification(4)), data=data)


def plain(parts: list[tuple[str, np.ndarray]]) -> dict[str, list[bool]]:
    return {name: rows.tolist() for name, rows in parts}


def test_classes_and_groups_with_samples() -> None:
    seen = examination(["b", "b", "a", "b"])
    classes = {"p": [False, True, False, True], "r": [True, False, True, False]}
    groups = {"a": [False, False, True, False], "b": [True, True, False, True]}
    assert plain(by_class(seen)) == classes
    assert plain(by_group(seen)) == groups
    assert list(plain(strata(seen))) == ["class=p", "class=r", "group=a", "group=b"]


def test_the_first_samples_alone() -> None:
    seen = examination(["b", "b", "a", "b"])
    assert plain(strata(seen, 2)) == {"class=p": [False, True], "class=r": [True, False], "group=b": [True, True]}
    assert by_group(examination(None)) == []
