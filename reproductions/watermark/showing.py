"""Tables and figures of the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import yaml

from assay.core.estimates import Estimate
from assay.core.probes import Figure, Mark, Series
from reproductions.pages import EXPECTED, Results, cell, table
from reproductions.spec import Spec

from .numbers import DECODINGS, quantities

TITLES = {"multinomial": "multinomial", "beam": "beam search"}
Known = Mapping[str, Estimate]


def tables(spec: Spec, results: Results) -> dict[str, str]:
    """Errors beside theory and the paper, false alarms, quality, theory, human text, attacks, and what it cost."""
    every = [(tier, quantities(spec, tier, rows)) for tier, rows in results.items()]
    made = {f"{name}-errors": _errors(spec, name, every) for name in DECODINGS}
    made |= {
        "short-texts": _short(spec, every),
        "false-alarms": _false_alarms(every),
        "theory": _theory(spec, every),
        "quality": _quality(spec, every),
        "human": _human(spec, every),
        "human-sources": _sources(spec, every),
        "copy-paste": _attacks(spec, every, ["copy-paste share", "copy-paste spans"]),
        "edits": _attacks(spec, every, ["none", "substitute", "insert", "delete"]),
        "lengths": _lengths(spec, every),
        "models": _models(results),
        "cost": _cost(spec, results),
    }
    return made


def _marks(spec: Spec, tier: str, name: str) -> Iterator[tuple[str, str]]:
    if name in spec.content["tiers"][tier]:
        for method, own in spec.experiment(tier, name)["methods"].items():
            if own["plan"]["mark"] is not None:
                yield method, own["title"]


def _errors(spec: Spec, name: str, every: Sequence[tuple[str, Known]]) -> str:
    content = yaml.safe_load((spec.folder / EXPECTED).read_text(encoding="utf-8"))
    printed = {item["quantity"]: item["paper"] for item in content["values"]}
    sampled = name == "multinomial"
    lines = []
    for tier, known in every:
        for method, title in _marks(spec, tier, name):
            start = f"{name}/{method}"
            if f"{start}/z" not in known:
                continue
            line = [title, _shown(known, f"{start}/z", "z")]
            if sampled:
                line.append(f"{known[f'{start}/spike'].value:.3f}")
            for threshold in (4, 5):
                line.append(_missed(known[f"{start}/found@{threshold}"]))
                if sampled:
                    line.append(_missed(known[f"{start}/predicted@{threshold}"]))
                else:
                    line.append(_missed(known[f"{start}/found@{threshold}_repeated"]))
                line.append(str(printed.get(f"{start}/found@{threshold}{'' if sampled else '_repeated'}", "–")))
            lines.append([*line, f"{known[f'{start}/found@4'].n:,}", tier])
    at = [
        [
            f"missed at z > {threshold}, %",
            "by theorem 4.2, %" if sampled else "with repeats, %",
            "the paper's share found (unverified)",
        ]
        for threshold in (4, 5)
    ]
    head = ["mark", "z", *(["spike entropy"] if sampled else []), *at[0], *at[1], "texts", "tier"]
    return table(head, lines)


def _short(spec: Spec, every: Sequence[tuple[str, Known]]) -> str:
    """Errors of the first tokens of the same texts."""
    lines = []
    for tier, known in every:
        for method, title in _marks(spec, tier, "multinomial"):
            for length in spec.experiment(tier, "multinomial")["plan"]["lengths"]:
                ends = [f"@{threshold}/{length}" for threshold in (4, 5)]
                starts = [f"{name}/{method}/found" for name in DECODINGS]
                if starts[0] + ends[0] not in known:
                    continue
                line = [title, str(length)]
                for end in ends:
                    line += [_missed(known[starts[0] + end]), _missed(known[f"multinomial/{method}/predicted{end}"])]
                    line.append(_missed(known[starts[1] + end]) if starts[1] + end in known else "–")
                lines.append([*line, tier])
    head = ["mark", "tokens"]
    for threshold in (4, 5):
        head += [f"missed at z > {threshold}, multinomial, %", "by theorem 4.2, %", "beam search, %"]
    return table([*head, "tier"], lines)


def _missed(found: Estimate) -> str:
    return cell({"value": 1 - found.value, "lo": 1 - found.hi, "hi": 1 - found.lo})


ALARMS = {"false@4": "z > 4, %", "false@5": "z > 5, %", "small@0.01": "p ≤ 0.01, %", "small@0.001": "p ≤ 0.001, %"}


def _false_alarms(every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for start, title in (
            ("multinomial/people", "human"),
            ("multinomial/unmarked", "generated, multinomial"),
            ("beam/unmarked", "generated, beam search"),
        ):
            for end, gamma in (("gamma-25", "0.25"), ("gamma-50", "0.5")):
                if f"{start}/false@4/{end}" not in known:
                    continue
                line = [title, gamma, f"{100 * known[f'{start}/repeated/{end}'].value:.1f}"]
                names = [f"{name}{way}" for name in ALARMS for way in ("", "_repeated")]
                line += [_small(known[f"{start}/{name}/{end}"]) for name in names]
                lines.append([*line, f"{known[f'{start}/false@4/{end}'].n:,}", tier])
    head = ["text", "γ", "repeated n-grams, %"]
    for what in ALARMS.values():
        head += [what, "with repeats"]
    return table([*head, "texts x keys", "tier"], lines)


def _theory(spec: Spec, every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for method, title in _marks(spec, tier, "multinomial"):
            start = f"multinomial/{method}"
            if f"{start}/bound" not in known:
                continue
            lines.append(
                [
                    title,
                    _shown(known, f"{start}/green", "percent"),
                    f"{100 * known[f'{start}/bound'].value:.1f}",
                    _shown(known, f"{start}/variance-below", "percent"),
                    _shown(known, f"{start}/spike-correlation", "times"),
                    *(_shown(known, f"{start}/green-at-{end}-entropy", "percent") for end in ("least", "most")),
                    _shown(known, f"{start}/surprise", "times"),
                    f"{known[f'{start}/surprise-bound'].value:.2f}",
                    _shown(known, f"{start}/exponent", "times"),
                    tier,
                ]
            )
    head = [
        "mark",
        "green, %",
        "at least, %",
        "variance below its bound by, %",
        "z with spike entropy, r",
        "green at low entropy, %",
        "green at high entropy, %",
    ]
    head += ["cost in nats, ratio", "at most", "z ~ length to the power", "tier"]
    return table(head, lines)


def _quality(spec: Spec, every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        for name in DECODINGS:
            rows = [("unmarked", "not marked"), *_marks(spec, tier, name)]
            if name == "multinomial":
                rows.insert(0, ("people", "human"))
            for method, title in rows:
                start = f"{name}/{method}"
                if f"{start}/perplexity" not in known:
                    continue
                over = known.get(f"{start} over unmarked/nats")
                ratio = None if over is None else {end: math.exp(getattr(over, end)) for end in ("value", "lo", "hi")}
                lines.append(
                    [
                        TITLES[name] if method != "people" else "–",
                        title,
                        _shown(known, f"{start}/z", "z") if f"{start}/z" in known else "–",
                        _shown(known, f"{start}/perplexity", "perplexity"),
                        "–" if ratio is None else cell(ratio, "times"),
                        tier,
                    ]
                )
    return table(["decoding", "mark", "z", "perplexity under the oracle", "times that of no mark", "tier"], lines)


ENDS = {"": "", "_repeated": "with repeats", "_strict": "strict", "_binomial": "binomial"}
"""Heads of the columns after the first, by way of counting."""


def _human(spec: Spec, every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        if "human" not in spec.content["tiers"][tier]:
            continue
        for scheme in spec.experiment(tier, "human")["plan"]["schemes"]:
            start = f"human/{scheme}"
            if f"{start}/false@4" in known:
                names = ["false@4", "false@4_repeated"]
                names += [f"{name}{end}" for name in ("small@0.01", "small@0.001") for end in ENDS]
                line = [scheme, *(_small(known[f"{start}/{name}"]) for name in names)]
                lines.append([*line, f"{known[f'{start}/false@4'].n:,}", tier])
    head = ["scheme", "z > 4, %", "with repeats"]
    for what in ("p ≤ 0.01, %", "p ≤ 0.001, %"):
        head += [what, *list(ENDS.values())[1:]]
    return table([*head, "texts x keys", "tier"], lines)


def _sources(spec: Spec, every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    for tier, known in every:
        if "human" not in spec.content["tiers"][tier]:
            continue
        plan = spec.experiment(tier, "human")["plan"]
        for source in plan["sources"]:
            for scheme in plan["schemes"]:
                start = f"human/{scheme}/{source}"
                if scheme != "hf-lefthash" and f"{start}/again" in known:
                    line = [source, scheme]
                    line += [f"{100 * known[f'{start}/{name}'].value:.1f}" for name in ("again", "again_strict")]
                    line += [_small(known[f"{start}/small@0.01{end}"]) for end in ENDS]
                    lines.append([*line, f"{known[f'{start}/false@4'].n:,}", tier])
    head = ["text", "scheme", "repeated n-grams, %", "left out by strict, %", "p ≤ 0.01, %", *list(ENDS.values())[1:]]
    return table([*head, "texts x keys", "tier"], lines)


def _attacked(spec: Spec, tier: str) -> list[tuple[str, str]]:
    """Methods of the experiment and their titles."""
    if "attacks" not in spec.content["tiers"][tier]:
        return []
    return [(method, own["title"]) for method, own in spec.experiment(tier, "attacks")["methods"].items()]


def _attacks(spec: Spec, every: Sequence[tuple[str, Known]], kinds: Sequence[str]) -> str:
    lines = []
    for tier, known in every:
        for method, title in _attacked(spec, tier):
            for attack in _attacks_of(known, method, kinds):
                start = f"attacks/{method}/{attack}"
                line = [title, attack]
                for measure, unit in (
                    ("z", "z"),
                    ("auc", "radius"),
                    ("tpr@0.01", "percent"),
                    ("found@1e-05", "percent"),
                ):
                    line += [_shown(known, f"{start}/{way}/{measure}", unit) for way in ("plain", "winmax")]
                lines.append([*line, tier])
    head = ["mark", "attack"]
    for what in ("mean z", "AUC", "TPR at FPR 1 %", "p ≤ 1e-5, %"):
        head += [what, f"{what}, WinMax"]
    return table([*head, "tier"], lines)


def _attacks_of(known: Known, scheme: str, kinds: Sequence[str]) -> list[str]:
    """The attacks of these kinds, in their order."""
    names = [name.split("/") for name in known if name.startswith(f"attacks/{scheme}/") and name.endswith("/plain/auc")]
    found = [parts[2] for parts in names if len(parts) == 5]
    return [attack for kind in kinds for attack in found if attack.startswith(kind) and "over" not in attack]


def _lengths(spec: Spec, every: Sequence[tuple[str, Known]]) -> str:
    lines = []
    lengths: list[str] = []
    for _, known in every:
        ends = (name.rpartition("/")[2] for name in known if "/none/z/" in name)
        lengths = sorted({*lengths, *ends}, key=int)
    for tier, known in every:
        for method, title in _attacked(spec, tier):
            start = f"attacks/{method}"
            if f"{start}/exponent" not in known:
                continue
            z = [_shown(known, f"{start}/none/z/{n}", "z") if f"{start}/none/z/{n}" in known else "–" for n in lengths]
            lines.append([title, "none: mean z", *z, tier])
            names = [name for name in known if name.startswith(f"{start}/substitute rate=") and "/found@1e-05/" in name]
            for attack in dict.fromkeys(name.split("/")[2] for name in names):
                at = [f"{start}/{attack}/found@1e-05/{n}" for n in lengths]
                cells = [_shown(known, name, "percent") if name in known else "–" for name in at]
                lines.append([title, f"{attack}: p ≤ 1e-5, %", *cells, tier])
    return table(["mark", "attack and measure", *(f"{n} tokens" for n in lengths), "tier"], lines)


def _models(results: Results) -> str:
    lines = []
    for tier, rows in results.items():
        for row in rows:
            if row["experiment"] == "models":
                known = "loss" in row
                lines.append(
                    [
                        row["method"],
                        f"{row['parameters']:,}" if known else row["model"],
                        f"{row['tokens']:,}" if known else "–",
                        f"{row['loss'][0]:.3f}" if known else "–",
                        f"{math.exp(row['loss'][0]):.1f}" if known else "–",
                        tier,
                    ]
                )
    return table(["model", "weights", "tokens of text", "loss on held-out text, nats", "perplexity", "tier"], lines)


def _cost(spec: Spec, results: Results) -> str:
    lines = []
    for tier, rows in results.items():
        for experiment in spec.content["tiers"][tier]:
            own = [row for row in rows if row["experiment"] == experiment]
            if own:
                minutes = [sum(row[f"{kind}_seconds"] for row in own) / 60 for kind in ("processor", "wall")]
                lines.append([experiment, str(len(own)), *(f"{value:.1f}" for value in minutes), tier])
    return table(["experiment", "jobs", "processor minutes", "wall minutes, one job after another", "tier"], lines)


def figures(spec: Spec, results: Results) -> list[Figure]:
    """Perplexity against z, found against predicted, and attacks; of the largest tier with results."""
    tier = spec.largest_tier("multinomial", results)
    if tier is None:
        return []
    known = quantities(spec, tier, results[tier])
    return [*_tradeoff(spec, tier, known), *_predictions(spec, tier, known), *_decay(spec, tier, known)]


def _tradeoff(spec: Spec, tier: str, known: Known) -> Iterator[Figure]:
    series = []
    for name in DECODINGS:
        for gamma in ("25", "50"):
            at = [f"{name}/gamma-{gamma}-delta-{delta}" for delta in (1, 2, 5)]
            at = [start for start in at if f"{start}/z" in known]
            if at:
                costs = [known[f"{start}/perplexity"] for start in at]
                series.append(
                    Series(
                        label=f"{TITLES[name]}, γ 0.{gamma.rstrip('0')}",
                        x=tuple(known[f"{start}/z"].value for start in at),
                        y=tuple(cost.value for cost in costs),
                        lo=tuple(cost.lo for cost in costs),
                        hi=tuple(cost.hi for cost in costs),
                    )
                )
    marks = [
        Mark(axis="y", value=known[name].value, label=label)
        for name, label in (
            ("multinomial/unmarked/perplexity", "not marked, multinomial"),
            ("beam/unmarked/perplexity", "not marked, beam search"),
        )
        if name in known
    ]
    if series:
        yield Figure(
            name="perplexity-z",
            title="What a stronger mark costs",
            caption=f"Tier {tier}. Mean z of texts of 200 tokens and their perplexity under the oracle, with 95 % "
            "intervals over texts; along a line δ is 1, 2 and 5.",
            kind="line",
            x_label="mean z",
            y_label="perplexity",
            series=tuple(series),
            marks=tuple(marks),
        )


def _predictions(spec: Spec, tier: str, known: Known) -> Iterator[Figure]:
    lengths = spec.experiment(tier, "multinomial")["plan"]["lengths"]
    series = []
    for method, title in _marks(spec, tier, "multinomial"):
        drawn = method in ("gamma-25-delta-1", "gamma-25-delta-2")  # with δ 5 all are found at once
        if drawn and f"multinomial/{method}/predicted@4/{lengths[0]}" in known:
            for measure, label in (("found", ""), ("predicted", ", theorem")):
                values = [known[f"multinomial/{method}/{measure}@4/{length}"] for length in lengths]
                ends = measure == "found"
                series.append(
                    Series(
                        label=title.replace("γ 0.25, ", "") + label,
                        x=tuple(map(float, lengths)),
                        y=tuple(value.value for value in values),
                        lo=tuple(value.lo for value in values) if ends else None,
                        hi=tuple(value.hi for value in values) if ends else None,
                    )
                )
    if series:
        yield Figure(
            name="sensitivity",
            title="How many marked texts are found, and how many theory promises",
            caption=f"Tier {tier}. γ 0.25, multinomial sampling, z > 4; 95 % intervals over texts. By theorem 4.2, "
            "with the average spike entropy of the run, no fewer should be found than its lines say.",
            kind="line",
            x_label="tokens",
            y_label="share of texts found",
            series=tuple(series),
            y_limits=(0.0, 1.0),
            x_scale="log",
        )


def _decay(spec: Spec, tier: str, known: Known) -> Iterator[Figure]:
    for kind, title, wanted in (
        ("edits", "Tokens changed", ("substitute", "insert", "delete")),
        ("copy-paste", "Copied into human text", ("copy-paste share", "copy-paste spans")),
    ):
        series = []
        for method, own in _attacked(spec, tier):
            if "weak" not in method:
                continue  # strong marks are found after nearly every attack
            start = f"attacks/{method}/"
            attacks = _attacks_of(known, method, wanted)
            for way, label in (("plain", "whole"), ("winmax", "WinMax")):
                values = [known[f"{start}{attack}/{way}/tpr@0.01"] for attack in attacks]
                if values:
                    series.append(
                        _bars(f"{own.partition(',')[0]}, {label}", [_brief(name) for name in attacks], values)
                    )
        if series:
            yield Figure(
                name=kind,
                title=f"{title}: how many texts are still found",
                caption=f"Tier {tier}. Marks with δ 1. Share of 600-token texts above the threshold that human texts "
                "exceed once in a hundred; 95 % intervals over texts, the threshold's uncertainty included.",
                kind="bar",
                x_label="attack",
                y_label="true positive rate",
                series=tuple(series),
                y_limits=(0.0, 1.0),
            )


def _brief(attack: str) -> str:
    """``"3 spans, 0.1"`` for ``"copy-paste spans=3 share=0.1"``, and ``"insert 0.1"`` for ``"insert rate=0.1"``."""
    kind, _, settings = attack.partition(" ")
    known = dict(part.split("=") for part in settings.split())
    if kind == "copy-paste":
        spans = known.get("spans", "1")
        return f"{spans} span{'s' * (spans != '1')}, {known['share']}"
    return f"{kind} {known['rate']}"


def _bars(label: str, names: Sequence[str], values: Sequence[Estimate]) -> Series:
    return Series(
        label=label,
        x=tuple(names),
        y=tuple(value.value for value in values),
        lo=tuple(value.lo for value in values),
        hi=tuple(value.hi for value in values),
    )


def _shown(known: Known, name: str, unit: str) -> str:
    return cell(known[name], unit)


def _small(share: Estimate) -> str:
    """A rare share in percent, with as many digits as it needs."""
    digits = 3 if share.value < 0.005 else 2
    return f"{100 * share.value:.{digits}f} [{100 * share.lo:.{digits}f}, {100 * share.hi:.{digits}f}]"
