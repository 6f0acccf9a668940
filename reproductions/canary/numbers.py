"""Every number that is reported, by name, from the results of the jobs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assay.core.estimates import Estimate
from reproductions.estimates import difference
from reproductions.spec import Spec

Rows = Sequence[Mapping[str, Any]]
CANARY = "-canary"
"""End of the names of the experiments whose targets are those of the experiment without it."""
NEAR = 0.55
"""An AUC below this is near chance; set before any control was run."""


def quantities(spec: Spec, tier: str, results: Rows) -> dict[str, Estimate]:
    """Every number that is reported, by name.

    ``D/A/auc``, ``D/A/tpr@0.01``, ``D/A/tpr@0.001`` for a data set D and an attack A: ``one-online`` and
    ``one-offline`` (LiRA asked with the record alone), ``augmented-...`` (with as many queries as there are canaries),
    ``canary-...``, ``global-threshold``, ``loss``, ``offset``; ``A@16`` with 16 references, ``canary-online/queries-1``
    with the first query alone. ``D/A/null``: the AUC where members and non-members are shuffled;
    ``D/A/null-inside``: how far 0.5 lies from the nearer end of its interval, negative outside. ``D/A/auc-below``: by
    how much the AUC is below ``NEAR``.
    ``D/A over B/...``: differences on the same records of the same targets; online over offline canaries come
    from two jobs, and their intervals are taken as independent.
    """
    found: dict[str, Estimate] = {}
    for row in results:
        if "attacks" in row:
            found.update(_attacks(data_of(row), row))
    for name in {data_of(row) for row in results}:
        found.update(_modes(name, found))
    return found


def data_of(row: Mapping[str, Any]) -> str:
    """The data set of a job: the name of its experiment without what is done."""
    return str(row["experiment"]).removesuffix(CANARY).removesuffix("-pool")


def _attacks(name: str, row: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    for attack, measured in row["attacks"].items():
        for what, values in measured.items():
            for alias in _names(attack, row):
                yield f"{name}/{alias}/{what}", _given(values, row)
        null = _given(row["shuffled"][attack], row)
        yield f"{name}/{attack}/null", null
        yield f"{name}/{attack}/null-inside", _bare(min(null.hi - 0.5, 0.5 - null.lo), null)
        auc = _given(measured["auc"], row)
        yield f"{name}/{attack}/auc-below", replace(auc, value=NEAR - auc.value, lo=NEAR - auc.hi, hi=NEAR - auc.lo)
    for pair, measured in row["over"].items():
        for what, values in measured.items():
            yield f"{name}/{pair}/{what}", _given(values, row, "paired ")


def _names(attack: str, row: Mapping[str, Any]) -> list[str]:
    """An attack's name, and, where it has all references and queries, the names that say how many these are."""
    if "@" in attack or "/" in attack:
        return [attack]
    more = [f"{attack}@{row['references']}"]
    if attack.startswith("canary"):
        more.append(f"{attack}/queries-{row['queries']}")
    return [attack, *more]


def _modes(name: str, known: Mapping[str, Estimate]) -> Iterator[tuple[str, Estimate]]:
    for what in ("auc", "tpr@0.01", "tpr@0.001"):
        both = [known.get(f"{name}/canary-{mode}/{what}") for mode in ("online", "offline")]
        if both[0] is not None and both[1] is not None:
            apart = difference(both[0], both[1])
            method = f"{apart.method} over test samples"
            yield f"{name}/canary-online over canary-offline/{what}", replace(apart, method=method)


def _given(values: Sequence[float], row: Mapping[str, Any], kind: str = "") -> Estimate:
    value, lo, hi = values
    count = row["members"] + row["nonmembers"]
    method = f"{kind}two-way bootstrap over test samples ({row['targets']} target models, {row['records']} records)"
    return Estimate(value=value, lo=lo, hi=hi, n=count, method=method)


def _bare(value: float, like: Estimate) -> Estimate:
    """A number that follows from an interval and has none of its own."""
    known = value if math.isfinite(value) else math.nan
    return Estimate(value=known, lo=known, hi=known, n=like.n, method="from the interval over test samples")
