"""What offset attacks have in common: the target's signal less its centres over reference models."""

from __future__ import annotations

import numpy as np

from ...core.probes import Finding
from ..signals import Signals
from .centres import group

SIDES = ("both", "out", "in")


def difference(signals: Signals, side: str, centre: str) -> tuple[np.ndarray, list[Finding]]:
    """mean over queries of target − centre, [N], and remarks on records with few models.

    Args:
        signals: of any kind; larger means more like a member.
        side: ``"out"``, ``"in"``, or ``"both"`` for the middle of the two centres.
        centre: ``"median"`` or ``"mean"``, over models.

    Raises:
        DataError: no record has a model of a side that is needed.
    """
    masks = {"OUT": ~signals.in_mask, "IN": signals.in_mask}
    wanted = ("IN", "OUT") if side == "both" else (side.upper(),)
    groups = [group(signals.reference, masks[name], name, centre) for name in wanted]
    middle = sum(one.centre for one in groups) / len(groups)
    findings = [*signals.findings, *(finding for one in groups for finding in one.findings())]
    return np.asarray((signals.target - middle).mean(axis=1)), findings
