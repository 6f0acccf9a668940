"""Tables and figures of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.core.estimates import Estimate
from assay.core.probes import Figure, Series
from reproductions.pages import Results, cell, table
from reproductions.spec import Spec

from .numbers import data_of, quantities

Known = Mapping[str, Estimate]
DATA = {
    "cifar10": "CIFAR-10",
    "augmented": "CIFAR-10, augmented",
    "mnist": "MNIST",
    "private": "CIFAR-10, DP-SGD",
}
ATTACKS = {
    "canary-online": "canaries, online",
    "one-online": "LiRA, the record, online",
    "augmented-online": "LiRA, augmented queries, online",
    "canary-offline": "canaries, offline",
    "one-offline": "LiRA, the record, offline",
    "augmented-offline": "LiRA, augmented queries, offline",
    "global-threshold": "global threshold",
    "offset": "offset",
}
MEASURES = {"auc": "AUC", "tpr@0.01": "TPR at FPR 1 %, %", "tpr@0.001": "TPR at FPR 0.1 %, %"}
BRIEF = {"canary": "canaries", "one": "record", "augmented": "augmented", "global": "threshold"}
"""Labels of the figures, by the first word of an attack's name."""
FEWEST = 1e-3
"""The lowest rate that is drawn."""


def tables(spec: Spec, results: Results) -> dict[str, str]:
    """Attacks, differences, number of queries and of references, the pools, and what it cost."""
    every = [(tier, quantities(spec, tier, rows)) for tier, rows in results.items()]
    return {
        "attacks": _attacks(every),
        "differences": _differences(every),
        "queries": _queries(every),
        "references": _references(every),
        "pools": _pools(results),
        "cost": _cost(spec, results),
    }


def _attacks(every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for name, title in DATA.items():
            for attack, words in ATTACKS.items():
                start = f"{name}/{attack}"
                if f"{start}/auc" in known:
                    null = cell(known[f"{start}/null"], "radius")
                    lines.append([title, words, *_measured(known, start), null, tier])
    return table(["data", "attack", *MEASURES.values(), "AUC, truth shuffled", "tier"], lines)


def _differences(every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for name, title in DATA.items():
            pairs = [key.split("/", 1)[1].rpartition("/")[0] for key in known if key.startswith(f"{name}/")]
            for pair in dict.fromkeys(pair for pair in pairs if " over " in pair):
                one, other = (_words(part) for part in pair.split(" over "))
                lines.append([title, one, other, *_measured(known, f"{name}/{pair}"), tier])
    head = ["data", "attack", "less", "AUC", "TPR at FPR 1 %, points", "TPR at FPR 0.1 %, points", "tier"]
    return table(head, lines)


def _queries(every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for name, title in DATA.items():
            for mode in ("online", "offline"):
                for count, start in _by_queries(known, name, mode):
                    lines.append([title, mode, str(count), *_measured(known, start), tier])
    return table(["data", "canaries", "queries", *MEASURES.values(), "tier"], lines)


def _references(every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for name, title in DATA.items():
            for attack, words in ATTACKS.items():
                for count, start in _by_references(known, name, attack):
                    lines.append([title, words, str(count), *_measured(known, start), tier])
    return table(["data", "attack", "references", *MEASURES.values(), "tier"], lines)


def _pools(results: Results) -> str:
    lines = []
    for tier, rows in results.items():
        for row in rows:
            if "accuracy_seen" in row:
                accuracies = [f"{100 * row[f'accuracy_{name}']:.1f}" for name in ("seen", "unseen", "test")]
                spent = row["guarantee"].get("epsilon", {})
                epsilon = ", ".join(f"{value:.2f} ({how})" for how, value in spent.items()) or "–"
                name = DATA.get(data_of(row), data_of(row))
                counts = [str(row["models"]), f"{row['records']:,}", f"{row['records'] // 2:,}"]
                lines.append([name, *counts, *accuracies, epsilon, tier])
    head = ["data", "models", "records", "in each", "accuracy on seen, %", "on unseen, %", "on the test part, %", "ε"]
    return table([*head, "tier"], lines)


def _cost(spec: Spec, results: Results) -> str:
    lines = []
    for tier, rows in results.items():
        for row in rows:
            trained = f"{row['seconds'] / 60:.1f}" if "seconds" in row else "–"
            minutes = [f"{row[f'{kind}_seconds'] / 60:.1f}" for kind in ("processor", "wall")]
            lines.append([row["experiment"], row["method"], trained, *minutes, tier])
    head = ["experiment", "method", "training, minutes of all models", "processor minutes beside", "wall minutes"]
    return table([*head, "tier"], lines)


def _measured(known: Known, start: str) -> list[str]:
    return [cell(known[f"{start}/{what}"], "radius" if what == "auc" else "percent") for what in MEASURES]


def _words(attack: str) -> str:
    """``"canaries, online, 1 query"`` for ``"canary-online/queries-1"``."""
    name, _, queries = attack.partition("/queries-")
    count = f", {queries} quer{'y' if queries == '1' else 'ies'}" if queries else ""
    return ATTACKS.get(name, name) + count


def _by_queries(known: Known, name: str, mode: str) -> list[tuple[int, str]]:
    """Numbers of canaries, and where their measures are."""
    return _by(known, f"{name}/canary-{mode}/queries-")


def _by_references(known: Known, name: str, attack: str) -> list[tuple[int, str]]:
    """Numbers of references, and where their measures are; nothing where there is one alone."""
    found = _by(known, f"{name}/{attack}@")
    return found if len(found) > 1 else []


def _by(known: Known, start: str) -> list[tuple[int, str]]:
    """Names that begin alike and end with a number, by that number."""
    ends = [key.removeprefix(start).removesuffix("/auc") for key in known if key.startswith(start)]
    return [(number, f"{start}{number}") for number in sorted(int(end) for end in ends if end.isdigit())]


def figures(spec: Spec, results: Results) -> list[Figure]:
    """Curves of every data set, the control, and what more references and more queries do; of the largest tier."""
    tier = spec.largest_tier("cifar10", results)
    if tier is None:
        return []
    known = quantities(spec, tier, results[tier])
    curves: dict[str, dict[str, Any]] = {}
    for row in results[tier]:
        if "curves" in row:
            own = curves.setdefault(data_of(row), {"row": row})
            own |= row["curves"]
    found = [_roc(tier, name, mode, curves[name]) for name in DATA if name in curves for mode in _modes(name)]
    return [*found, *_control(tier, curves), *_ablations(tier, known)]


def _modes(name: str) -> tuple[str, ...]:
    return () if name == "private" else ("online", "offline")


def _roc(tier: str, name: str, mode: str, curves: Mapping[str, Any]) -> Figure:
    drawn = [attack for attack in ATTACKS if attack in curves and (mode in attack or attack == "global-threshold")]
    return _curves(
        f"roc-{name}-{mode}",
        f"{DATA[name]}, {mode}: members found at each false positive rate",
        f"Tier {tier}. Canaries, LiRA with the record alone and with augmented queries, and the global threshold. "
        f"Means over {_counts(curves['row'])}. Both axes are logarithmic.",
        [(_brief(attack), curves[attack]) for attack in drawn],
    )


def _brief(attack: str) -> str:
    return BRIEF[attack.partition("-")[0]]


def _control(tier: str, curves: Mapping[str, Mapping[str, Any]]) -> Iterator[Figure]:
    if "private" in curves and "cifar10" in curves:
        yield _curves(
            "roc-control",
            "The same network with and without differential privacy",
            f"Tier {tier}. LiRA online, asked with the record alone. With DP-SGD: {_counts(curves['private']['row'])}, "
            f"{curves['private']['row']['references']} references; without: {curves['cifar10']['row']['references']}.",
            [(words, curves[name]["one-online"]) for name, words in (("cifar10", "without"), ("private", "DP-SGD"))],
        )


def _counts(row: Mapping[str, Any]) -> str:
    return f"{row['targets']} target models; {row['members']:,} members and {row['nonmembers']:,} non-members in all"


def _curves(name: str, title: str, caption: str, curves: Sequence[tuple[str, Any]]) -> Figure:
    chance = (FEWEST, 1.0)
    drawn = [(label, tuple(x for x, _ in points), tuple(y for _, y in points)) for label, points in curves]
    return Figure(
        name=name,
        title=title,
        caption=caption,
        kind="line",
        x_label="false positive rate",
        y_label="true positive rate",
        series=(
            *(Series(label=label, x=x, y=y) for label, x, y in drawn),
            Series(label="chance", x=chance, y=chance),
        ),
        x_limits=(FEWEST, 1.0),
        y_limits=(FEWEST, 1.0),
        x_scale="log",
        y_scale="log",
    )


def _ablations(tier: str, known: Known) -> Iterator[Figure]:
    for name, title in DATA.items():
        for mode in ("online", "offline"):
            drawn = [attack for attack in ATTACKS if attack.endswith(f"-{mode}")]
            found = [(attack, _by_references(known, name, attack)) for attack in drawn]
            series = [_line(known, _brief(attack), at) for attack, at in found if at]
            if series:
                words = f"{title}, {mode}: more references"
                yield _ablation(tier, f"references-{name}-{mode}", words, "reference models", series)
    for mode in ("online", "offline"):
        at_each = [(title, _by_queries(known, name, mode)) for name, title in DATA.items()]
        series = [_line(known, title, at) for title, at in at_each if at]
        if series:
            yield _ablation(tier, f"queries-{mode}", f"More canaries of a record, {mode}", "queries", series)


def _line(known: Known, label: str, at: Sequence[tuple[int, str]]) -> Series:
    values = [known[f"{start}/tpr@0.01"] for _, start in at]
    return Series(
        label=label,
        x=tuple(float(count) for count, _ in at),
        y=tuple(value.value for value in values),
        lo=tuple(value.lo for value in values),
        hi=tuple(value.hi for value in values),
    )


def _ablation(tier: str, name: str, title: str, what: str, series: Sequence[Series]) -> Figure:
    return Figure(
        name=name,
        title=title,
        caption=f"Tier {tier}. TPR at FPR 1 %, with 95 % intervals over target models and records.",
        kind="line",
        x_label=what,
        y_label="true positive rate at FPR 1 %",
        series=tuple(series),
        x_scale="log",
    )
