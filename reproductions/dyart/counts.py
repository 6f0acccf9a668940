"""From the counts of the trainings to estimates: one a seed, by method and quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.estimates import Estimate, proportion
from assay.core.settings import number
from reproductions.dyart.measure import OWN
from reproductions.estimates import difference

Counts = tuple[int, int]
Seeds = dict[int, Estimate]


def by_seed(rows: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> dict[str, dict[str, Seeds]]:
    """Method, or FLOW@METHOD -> quantity -> seed -> estimate with its interval over samples."""
    found: dict[str, dict[str, Seeds]] = {}

    def note(method: str, name: str, seed: int, counts: Sequence[int]) -> None:
        if counts[1]:
            found.setdefault(method, {}).setdefault(name, {})[seed] = proportion(int(counts[0]), int(counts[1]))

    for row in rows:
        method, seed, moments = row["method"], row["seed"], row["moments"]
        note(method, "clean", seed, row["correct"])
        for eps, counts in row["robust"].items():
            note(method, f"robust/{eps}", seed, counts)
        for flow in moments[0]["closer"]:
            names = [f"{method}@{method}", method] if flow == OWN else [f"{flow}@{method}"]
            for radius, quantity in ((plan["radius"], "conflict"), (plan["r0"], "conflict/r0")):
                each = [conflict(moment, flow, plan, radius) for moment in moments]
                for name in names:
                    note(name, quantity, seed, np.sum(each, axis=0))
                    for place, counts in enumerate(each, 1):
                        note(name, f"{quantity}/{place}", seed, counts)
        for name, moment in (("first", moments[0]), ("last", moments[-1])):
            note(method, f"within/{name}", seed, within(moment, plan, plan["r0"]))
            note(method, f"vulnerable/{name}", seed, within(moment, plan, plan["radius"]))
            note(method, f"wrong/{name}", seed, (moment["wrong"], samples(moment)))
    for values in found.values():
        for quantity in ("within", "vulnerable"):
            if f"{quantity}/last" in values:
                values[f"{quantity}/fell"] = minus(values[f"{quantity}/first"], values[f"{quantity}/last"])
    return found


def conflict(moment: Mapping[str, Any], flow: str, plan: Mapping[str, Any], radius: float | str) -> Counts:
    """Points with 0 < R < radius that see the boundary come closer, and all points with such a margin."""
    rows = bins_below(plan, radius)
    return sum(moment["closer"][flow][:rows]), sum(moment["margins"][:rows])


def within(moment: Mapping[str, Any], plan: Mapping[str, Any], radius: float | str) -> Counts:
    """Samples with R < radius, misclassified ones included, and all samples."""
    near = sum(moment["margins"][: bins_below(plan, radius)])
    return moment["wrong"] + near, samples(moment)


def samples(moment: Mapping[str, Any]) -> int:
    """All samples that were looked at."""
    return int(moment["wrong"] + moment["unfound"] + sum(moment["margins"]))


def bins_below(plan: Mapping[str, Any], radius: float | str) -> int:
    """How many bins lie below a radius, which is the end of one."""
    return [number(edge) for edge in plan["bins"]].index(number(radius))


def minus(a: Seeds, b: Seeds) -> Seeds:
    """a - b for each seed that both have."""
    return {seed: difference(a[seed], b[seed]) for seed in a if seed in b}
