"""Presets: whole configurations of a recipe, such as those of its paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that belong together; ``assay train RECIPE --preset NAME`` begins with them.

    Args:
        network: a key of ``assay.subjects.NETWORKS``; ``""``: the recipe's own choice.
        recipe: settings of the recipe by name; those not named keep their defaults.
        training: fields of ``TrainSettings`` by name, likewise.
        remark: one sentence on where it comes from and what it is for.
    """

    network: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""
