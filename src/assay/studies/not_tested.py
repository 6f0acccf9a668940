"""What an audit did not examine: said in every report, so that silence is never read as a pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BY_ATTACK = "Privacy by attack: membership inference and reconstruction of training data."
RECONSTRUCTION = "Reconstruction of training data: whether records can be made from the model, not only recognised."
STANDING = (
    "Common corruptions and shifts: noise, blur, weather, compression, new cameras or populations.",
    "Adversaries outside a norm ball: patches, rotations, physical objects, changes of meaning.",
    "Poisoned or backdoored training data, and theft of the model by queries.",
)

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
PERTURBING = ("robust-accuracy", "minimum-norm", "margins")


def not_tested(probes: Iterable[Mapping[str, Any]], *, strata: bool, limited: int | None) -> list[str]:
    """Sentences on what stays open after these probes.

    Args:
        probes: for each probe that gave a result ``{"probe": name, "settings": resolved settings}``.
        strata: whether the data had a group column.
        limited: how many samples were examined, where the suite asked for no more; else None.
    """
    finished = list(probes)
    norms = {str(item["settings"].get("norm")) for item in finished if _perturbs(item)}
    names = {str(item["probe"]) for item in finished}
    open_points = [f"Perturbations bounded in {word}." for norm, word in NORMS.items() if norm not in norms]
    if "clean-accuracy" not in names:
        open_points.append("Accuracy on unchanged inputs.")
    if "calibration" not in names:
        open_points.append("Calibration: whether the confidence can be taken at its word.")
    if "certified-accuracy" not in names:
        open_points.append(
            "Certified robustness: attacks give upper bounds on robust accuracy; a stronger attack may find more."
        )
    if "private-training" not in names:
        open_points.append("Differential privacy: nothing is known of how the training data were protected.")
    if not strata:
        open_points.append("Differences between groups of people or sources: the data name no group.")
    if limited is not None:
        open_points.append(f"Samples of this data set beyond the first {limited}.")
    attacked = bool({"membership-inference", "canary-inference"} & names)
    return [*open_points, RECONSTRUCTION if attacked else BY_ATTACK, *STANDING]


def not_tested_of_encoders(tasks: Sequence[str], *, norm: str, names: Sequence[str]) -> list[str]:
    """Sentences on what stays open after a cross-task study of encoders.

    Args:
        tasks: that were measured.
        norm: of the perturbations.
        names: of the data sets.
    """
    missing = [task for task in ("classification", "segmentation", "depth", "embedding") if task not in tasks]
    open_points = [f"Perturbations bounded in {word}." for other, word in NORMS.items() if other != norm]
    open_points += [f"The task {task}." for task in missing]
    open_points += [
        "Other heads: larger ones, and encoders that are trained on together with their head.",
        f"Images unlike those of {', '.join(dict.fromkeys(names))}.",
        "Stronger adversaries: attacks give upper bounds on robust quality; more steps or other objectives may find "
        "more.",
    ]
    return [*open_points, BY_ATTACK, *STANDING]


def _perturbs(item: Mapping[str, Any]) -> bool:
    """Whether a probe looked for changes of the input that make the model wrong; a soft boundary says nothing of it."""
    return item["probe"] in PERTURBING and item["settings"].get("temperature") is None
