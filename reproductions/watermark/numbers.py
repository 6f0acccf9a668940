"""Every number that is reported, by name, from the results of the jobs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import chdtri, stdtrit

from assay.core.estimates import Estimate, proportion
from reproductions.estimates import LEVEL, difference, over_seeds
from reproductions.spec import Spec

from .attacks import MEASURED, STATED, WAYS
from .human import WAYS as WAYS_TO_COUNT
from .marked import RATES, THRESHOLDS, all_texts, predicted, z_scores

Rows = Sequence[Mapping[str, Any]]
DECODINGS = ("multinomial", "beam")
OVER = "over test samples"
ENOUGH = 200
"""N-grams that a part of the range of entropies must hold to be reported."""
NEAR = 0.05
"""How far the exponent of length may be from one half."""


def quantities(spec: Spec, tier: str, results: Rows) -> dict[str, Estimate]:
    """Every number that is reported, by name.

    ``D/M/...`` for a decoding D and a mark M such as ``gamma-25-delta-2``: ``found@4`` the share of texts with z > 4
    (``found@4/25``: of their first 25 tokens), ``predicted@4`` the same by theorem 4.2, ``z``, ``green``, ``spike``,
    ``perplexity`` means, ``green-beyond`` the green share above the bound of theorem 4.2, ``variance-below`` by how
    much (as a share) the variance is below its, ``spike-correlation`` of z with spike entropy, ``green-by-entropy`` how
    much greener tokens of high entropy are, ``surprise-below`` by how much (as a share) the mean -log p is below the
    bound of theorem 4.3, ``exponent`` of length and ``exponent-near-half``.
    ``multinomial/agreement@4/25``: minus the largest difference of found and predicted; ``kept@4``: the largest
    shortfall at any length, negative where fewer are found.
    ``D/A over B/found@4`` and ``.../nats``: differences, the latter for the same prompts.
    ``D/unmarked/...``, ``D/people/...``: what is not marked, generated and human: ``false@4/gamma-25``,
    ``small@0.01/gamma-25`` the share of p-values that are at most that, ``..._repeated``, and ``slack@0.01/...`` and
    ``excess@0.01/...``, by how much that is below and above 0.01; ``true@4``, the share that is not above.
    ``human/S/...`` for a scheme S, and ``human/S/SOURCE/...``: the same for human text, also ``..._strict`` and
    ``..._binomial``.
    ``attacks/S/A/WAY/...`` for an attack A: ``auc``, ``tpr@0.01``, ``z``, ``found@0.001``.
    """
    found: dict[str, Estimate] = {}
    for experiment in spec.content["tiers"][tier]:
        rows = [row for row in results if row["experiment"] == experiment]
        methods = list(dict.fromkeys(row["method"] for row in rows))
        by_method = {method: [row for row in rows if row["method"] == method] for method in methods}
        if experiment in DECODINGS:
            plans = spec.experiment(tier, experiment)
            found.update(_decoding(experiment, by_method, plans))
        elif experiment == "human":
            for row_of in by_method.values():
                found.update(_human(row_of))
        elif experiment == "attacks":
            for method, own in by_method.items():
                found.update(_attacks(f"attacks/{method}", own[0]))
        elif experiment == "models":
            for method, own in by_method.items():
                if "loss" in own[0]:
                    value, lo, hi = own[0]["loss"]
                    found[f"models/{method}/loss"] = Estimate(value=value, lo=lo, hi=hi, n=1, method="one training")
    found.update(_across(found))
    return found


def rate(successes: int, count: int) -> Estimate:
    """A share with its exact interval."""
    return replace(proportion(successes, count), method=f"clopper-pearson {OVER}")


def mean(values: Any) -> Estimate:
    """A mean over texts with Student's interval."""
    found = over_seeds(list(values))
    return replace(found, method=f"Student's t {OVER}")


def mark_name(gamma: str) -> str:
    """``gamma-25`` for ``"0.25"``."""
    return f"gamma-{float(gamma) * 100:.0f}"


def _decoding(
    name: str, by_method: Mapping[str, Rows], experiment: Mapping[str, Any]
) -> Iterator[tuple[str, Estimate]]:
    temperature = experiment["plan"]["decoding"].get("temperature", 1.0)
    sampled = experiment["plan"]["decoding"]["decoding"] == "multinomial"
    for method, rows in by_method.items():
        texts, start = all_texts(rows), f"{name}/{method}"
        yield f"{start}/perplexity", _exp(mean(texts["oracle"]))
        yield f"{start}/entropy", mean(texts["entropy"])
        mark = experiment["methods"][method]["plan"]["mark"]
        if mark is None:
            yield from _nulls(start, [row["null"] for row in rows])
            yield from _nulls(f"{name}/people", [row["human"]["null"] for row in rows])
            yield f"{name}/people/perplexity", _exp(mean([v for row in rows for v in row["human"]["oracle"]]))
            continue
        yield from _marked(start, rows, texts, mark, temperature, sampled)
        if "unmarked" in by_method:
            yield from _paired(name, method, "unmarked", by_method)
    for gamma in ("25", "50"):
        order = [f"gamma-{gamma}-delta-{delta}" for delta in (1, 2, 5) if f"gamma-{gamma}-delta-{delta}" in by_method]
        for one, two in zip(order[1:], order, strict=False):
            yield from _paired(name, one, two, by_method)


def _marked(
    start: str, rows: Rows, texts: Mapping[str, list[float]], mark: Mapping[str, Any], temperature: float, sampled: bool
) -> Iterator[tuple[str, Estimate]]:
    from assay.watermark.theory import green_rate, perplexity_bound

    gamma, effective = mark["gamma"], mark["delta"] / temperature
    z, n = z_scores(texts, gamma), len(texts["green"])
    green, scored = np.array(texts["green"], float), np.array(texts["scored"], float)
    for end in ("", "_repeated"):
        own = z_scores(texts, gamma, end)
        yield f"{start}/z{end}", mean(own)
        for threshold in THRESHOLDS:
            yield f"{start}/found@{threshold}{end}", rate(int((own > threshold).sum()), n)
    yield f"{start}/green", mean(green / scored)
    yield f"{start}/spike", mean(texts["spike"])
    yield f"{start}/repeated", mean(1 - scored / scored.max())
    slopes = [_exponent({length: known["z"] for length, known in row["lengths"].items()}) for row in rows]
    exponent = over_seeds(slopes)
    yield f"{start}/exponent", exponent
    yield f"{start}/exponent-near-half", _near(exponent, 0.5, NEAR)
    spike = float(np.mean(texts["spike"]))
    for length in rows[0]["lengths"]:
        parts = [row["lengths"][length] for row in rows]
        counts = Counter[int]()
        for part in parts:
            counts.update({int(number): count for number, count in part["scored"].items()})
        for place, threshold in enumerate(THRESHOLDS):
            end = f"@{threshold}/{length}"
            yield f"{start}/found{end}", rate(sum(part["found"][place] for part in parts), n)
            if sampled:
                yield f"{start}/predicted{end}", _bare(predicted(counts, spike, mark, temperature, threshold))
    if not sampled:
        return
    for threshold in THRESHOLDS:
        value = predicted(Counter(texts["scored"]), spike, mark, temperature, threshold)
        yield f"{start}/predicted@{threshold}", _bare(value)
    spikes = np.array(texts["spike"])
    bounds = np.array([green_rate(spike, gamma, effective) for spike in spikes])
    yield f"{start}/bound", mean(bounds)
    yield f"{start}/green-beyond", mean(green / scored - bounds)
    if n > 3:
        yield f"{start}/variance-below", _variance(green, scored, spikes, float(bounds.mean()))
        yield f"{start}/spike-correlation", _correlation(spikes, z)
    low, high = _ends(rows)
    yield f"{start}/green-at-least-entropy", rate(low[2], low[1])
    yield f"{start}/green-at-most-entropy", rate(high[2], high[1])
    yield f"{start}/green-by-entropy", _apart(rate(high[2], high[1]), rate(low[2], low[1]))
    entropy, surprise = np.array(texts["entropy"]), np.array(texts["surprise"])
    bound = perplexity_bound(gamma, effective)
    yield f"{start}/surprise", mean(surprise / entropy)
    yield f"{start}/surprise-bound", _bare(bound)
    yield f"{start}/surprise-below", mean(1 - surprise / (bound * entropy))


def _ends(rows: Rows) -> tuple[list[Any], list[Any]]:
    """Mean spike entropy, n-grams and green ones, in the lowest and in the highest part that has ``ENOUGH`` of them."""
    by_place: dict[int, list[Any]] = {}
    for row in rows:
        for number, spike, count, green in row["by_spike"]:
            known = by_place.setdefault(number, [0.0, 0, 0])
            known[0] += spike * count
            known[1] += count
            known[2] += green
    parts = [[total / count, count, green] for total, count, green in by_place.values()]
    large = [part for part in parts if part[1] >= min(ENOUGH, max(part[1] for part in parts))]
    return min(large), max(large)


def _paired(name: str, one: str, two: str, by_method: Mapping[str, Rows]) -> Iterator[tuple[str, Estimate]]:
    """How much ``one`` costs beyond ``two`` in nats a token under the oracle, on the prompts that both have."""
    first = {row["seed"]: row["texts"]["oracle"] for row in by_method[one]}
    second = {row["seed"]: row["texts"]["oracle"] for row in by_method[two]}
    seeds = [seed for seed in first if seed in second]
    if seeds:
        values = np.concatenate([np.subtract(first[seed], second[seed]) for seed in seeds])
        yield f"{name}/{one} over {two}/nats", mean(values)


def _nulls(start: str, parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Estimate]]:
    for gamma in parts[0]:
        own, end = [part[gamma] for part in parts], mark_name(gamma)
        count = sum(part["count"] for part in own)
        for name, field in (("", "small"), ("_repeated", "small_repeated")):
            for threshold in THRESHOLDS:
                share = rate(sum(part[f"z{threshold}{name}"] for part in own), count)
                yield f"{start}/false@{threshold}{name}/{end}", share
                yield f"{start}/true@{threshold}{name}/{end}", _below(1.0, share)
            for place, level in enumerate(RATES):
                share = rate(sum(part[field][place] for part in own), count)
                yield f"{start}/small@{level:g}{name}/{end}", share
                yield f"{start}/slack@{level:g}{name}/{end}", _below(level, share)
                yield f"{start}/excess@{level:g}{name}/{end}", _above(level, share)
        yield f"{start}/repeated/{end}", _bare(float(np.mean([part["repeated"] for part in own])))


def _human(rows: Rows) -> Iterator[tuple[str, Estimate]]:
    for scheme, by_source in rows[0]["schemes"].items():
        places = {"": list(by_source), **{f"/{source}": [source] for source in by_source}}
        for place, sources in places.items():
            cells = [row["schemes"][scheme][source] for row in rows for source in sources]
            start, count = f"human/{scheme}{place}", sum(cell["count"] for cell in cells)
            for name in WAYS_TO_COUNT:
                for threshold in THRESHOLDS:
                    share = rate(sum(cell[f"z{threshold}{name}"] for cell in cells), count)
                    yield f"{start}/false@{threshold}{name}", share
                    yield f"{start}/true@{threshold}{name}", _below(1.0, share)
                for index, level in enumerate(RATES):
                    share = rate(sum(cell[f"small{name}"][index] for cell in cells), count)
                    yield f"{start}/small@{level:g}{name}", share
                    yield f"{start}/slack@{level:g}{name}", _below(level, share)
                    yield f"{start}/excess@{level:g}{name}", _above(level, share)
            for index, level in enumerate(RATES):
                yield f"{start}/small@{level:g}_binomial", rate(sum(c["small_binomial"][index] for c in cells), count)
            weights = [cell["count"] for cell in cells]
            for name in ("again", "again_strict"):
                yield f"{start}/{name}", _bare(float(np.average([cell[name] for cell in cells], weights=weights)))


def _attacks(start: str, row: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    known: dict[str, Estimate] = {}
    count = row["count"]
    for attack, own in row["attacks"].items():
        for way in WAYS:
            at = f"{attack}/{way}"
            known[f"{at}/auc"] = _given(own[way]["auc"], count)
            for level, values in zip(MEASURED, own[way]["tpr"], strict=True):
                known[f"{at}/tpr@{level:g}"] = _given(values, count)
            known[f"{at}/z"] = _moments(own[way]["z"], count)
            for level, hits in zip(STATED, own[way]["found"], strict=True):
                known[f"{at}/found@{level:g}"] = rate(hits, count)
        for measure in ("auc", "tpr@0.01", "tpr@0.001", "found@1e-05"):
            both = [known[f"{attack}/{way}/{measure}"] for way in ("winmax", "plain")]
            known[f"{attack}/winmax over plain/{measure}"] = _apart(*both)
            known[f"{attack}/plain over winmax/{measure}"] = _apart(*both[::-1])
    for attack, lengths in row["short"].items():
        for length, hits in lengths.items():
            for level, number in zip(STATED, hits, strict=True):
                known[f"{attack}/found@{level:g}/{length}"] = rate(number, count)
        last = max(lengths, key=int)
        for length in lengths:
            if length != last:
                pair = [known[f"{attack}/found@1e-05/{n}"] for n in (last, length)]
                known[f"{attack}/{last} over {length}/found@1e-05"] = _apart(*pair)
    for way in WAYS:
        for level, hits in zip(STATED, row["false"][way], strict=True):
            known[f"people/{way}/false@{level:g}"] = rate(hits, row["negatives"])
    for kind in ("substitute", "insert", "delete"):
        known.update(_falls(known, kind))
    for spans in (1, 3):
        names = [_copied(spans, share) for share in (0.25, 0.1)]
        if all(f"{name}/plain/auc" in known for name in names):
            for way in WAYS:
                pair = [known[f"{name}/{way}/auc"] for name in names]
                known[f"copy-paste spans={spans}/25 % over 10 %/{way}/auc"] = _apart(*pair)
    for length, values in row["z"].items():
        known[f"none/z/{length}"] = _moments(values, count)
    exponent = _bare(_exponent(row["z"]))
    known["exponent"] = exponent
    for name, estimate in known.items():
        yield f"{start}/{name}", estimate


def _copied(spans: int, share: float) -> str:
    return f"copy-paste share={share:g}" if spans == 1 else f"copy-paste spans={spans} share={share:g}"


def _falls(known: Mapping[str, Estimate], kind: str) -> Iterator[tuple[str, Estimate]]:
    """The smallest fall of the mean z from one budget to the next, in the order of the budgets."""
    steps = [known[f"{name}/plain/z"] for name in ("none", *_budgets(known, kind))]
    falls = [_apart(one, two) for one, two in itertools.pairwise(steps)]
    if falls:
        yield f"{kind}/least-fall", min(falls, key=lambda fall: fall.lo)


def _budgets(known: Mapping[str, Estimate], kind: str) -> list[str]:
    names = {name.partition("/")[0] for name in known if name.startswith(f"{kind} rate=")}
    return sorted(names, key=lambda name: float(name.rpartition("=")[2]))


def _across(known: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Differences between settings and decodings, and how far prediction is from observation."""
    found: dict[str, Estimate] = {}
    for gamma in ("25", "50"):
        ends = [f"gamma-{gamma}-delta-{delta}" for delta in (1, 2, 5)]
        for name in DECODINGS:
            there = [end for end in ends if f"{name}/{end}/z" in known]
            for weaker, stronger in itertools.pairwise(there):
                for measure in _measures(known, f"{name}/{weaker}"):
                    pair = (known[f"{name}/{end}/{measure}"] for end in (stronger, weaker))
                    found[f"{name}/{stronger} over {weaker}/{measure}"] = _apart(*pair)
        for end in ends:
            if all(f"{name}/{end}/z" in known for name in DECODINGS):
                for measure in _measures(known, f"beam/{end}"):
                    pair = (known[f"{name}/{end}/{measure}"] for name in ("beam", "multinomial"))
                    found[f"beam over multinomial/{end}/{measure}"] = _apart(*pair)
    return found | dict(_against_theory(known))


def _measures(known: Mapping[str, Estimate], start: str) -> list[str]:
    """z and the shares found, at every length."""
    ends = (name.removeprefix(f"{start}/") for name in known if name.startswith(f"{start}/"))
    return [end for end in ends if end in ("z", "z_repeated") or end.startswith("found@")]


def _against_theory(known: Mapping[str, Estimate]) -> Iterator[tuple[str, Estimate]]:
    """How far observation is from prediction: minus the largest difference by length, and the largest shortfall."""
    parts: dict[tuple[str, str], list[tuple[Estimate, Estimate]]] = {}
    for name, bound in known.items():
        head, split, end = name.partition("/predicted@")
        if split and head.startswith("multinomial/") and "/" in end:
            threshold, _, length = end.partition("/")
            parts.setdefault((threshold, length), []).append((known[f"{head}/found@{end}"], bound))
    for (threshold, length), pairs in parts.items():
        seen, bound = max(pairs, key=lambda pair: abs(pair[0].value - pair[1].value))
        yield f"multinomial/agreement@{threshold}/{length}", _near(seen, bound.value, 0.0)
    for threshold in {threshold for threshold, _ in parts}:
        every = [pair for (own, _), pairs in parts.items() if own == threshold for pair in pairs]
        seen, bound = min(every, key=lambda pair: pair[0].value - pair[1].value)
        yield f"multinomial/kept@{threshold}", _above(bound.value, seen)


def _apart(one: Estimate, two: Estimate) -> Estimate:
    """one - two, as if they were independent, which is wider than needed where they share prompts."""
    found = difference(one, two)
    return replace(found, method=f"difference of intervals {OVER}")


def _below(level: float, share: Estimate) -> Estimate:
    """level - share."""
    return replace(share, value=level - share.value, lo=level - share.hi, hi=level - share.lo)


def _above(level: float, share: Estimate) -> Estimate:
    """share - level."""
    return replace(share, value=share.value - level, lo=share.lo - level, hi=share.hi - level)


def _near(estimate: Estimate, centre: float, margin: float) -> Estimate:
    """margin - |estimate - centre|."""
    ends = [abs(estimate.lo - centre), abs(estimate.hi - centre)]
    if not all(map(math.isfinite, ends)):
        return replace(estimate, value=margin - abs(estimate.value - centre))
    nearest = 0.0 if estimate.lo <= centre <= estimate.hi else min(ends)
    return replace(estimate, value=margin - abs(estimate.value - centre), lo=margin - max(ends), hi=margin - nearest)


def _exponent(lengths: Mapping[str, Sequence[float]]) -> float:
    """The slope of log mean z over log length, by least squares."""
    known = [(math.log(int(length)), values[0]) for length, values in lengths.items() if values[0] > 0]
    if len(known) < 2:
        return math.nan
    return float(np.polyfit([x for x, _ in known], [math.log(z) for _, z in known], 1)[0])


def _variance(green: np.ndarray, scored: np.ndarray, spikes: np.ndarray, bound: float) -> Estimate:
    """1 - variance / bound, q(1-q) an n-gram with q from theorem 4.2, of the green share that entropy does not explain.

    Texts differ in their entropy, and the theorem is about one text: a line in the spike entropy is taken out first.
    """
    share = green / scored
    slope, offset = np.polyfit(spikes, share, 1) if np.ptp(spikes) > 0 else (0.0, share.mean())
    left = (share - offset - slope * spikes) * np.sqrt(scored)
    free = len(left) - 2
    ratio = float((left**2).sum() / free) / (bound * (1 - bound))
    tail = (1 - LEVEL) / 2
    most, least = (ratio * free / float(chdtri(free, end)) for end in (1 - tail, tail))
    return Estimate(value=1 - ratio, lo=1 - most, hi=1 - least, n=len(left), method=f"chi-squared {OVER}")


def _correlation(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Pearson's r with Fisher's interval."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return _bare(math.nan)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1 + 1e-12, 1 - 1e-12))
    half = 1.959964 / math.sqrt(len(a) - 3)
    lo, hi = (math.tanh(math.atanh(r) + sign * half) for sign in (-1, 1))
    return Estimate(value=r, lo=lo, hi=hi, n=len(a), method=f"Fisher {OVER}")


def _exp(estimate: Estimate) -> Estimate:
    return replace(estimate, **{name: math.exp(getattr(estimate, name)) for name in ("value", "lo", "hi")})


def _given(values: Sequence[float], count: int) -> Estimate:
    value, lo, hi = values
    return Estimate(value=value, lo=lo, hi=hi, n=count, method=f"exact or bootstrap {OVER}")


def _moments(values: Sequence[float], count: int) -> Estimate:
    value, deviation = values
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(count)
    return Estimate(value=value, lo=value - half, hi=value + half, n=count, method=f"Student's t {OVER}")


def _bare(value: float) -> Estimate:
    return Estimate(value=value, lo=math.nan, hi=math.nan, n=1, method="no interval")
