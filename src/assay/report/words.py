"""How the page says things: numbers, names of metrics, threat models and claims for a reader who is no specialist."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..core.budgets import NORM_SYMBOLS, budget_text
from ..core.claims import Verdict
from ..core.probes import Metric

DASH = "–"
OUTCOMES = {
    "passed": ("✓", "passed"),
    "failed": ("✗", "failed"),
    "not_run": ("?", "not run"),
}
STATUSES = {
    "ok": ("✓", "complete"),
    "failed": ("✗", "did not finish: error"),
    "incomplete": ("?", "incomplete"),
    "not_applicable": ("∅", "not applicable"),
}
SEVERITIES = {
    "serious": ("!", "serious"),
    "warning": ("▲", "warning"),
    "info": ("i", "note"),
}
OPERATORS = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
UNITS = {"share": "", **NORM_SYMBOLS}

EXPLANATIONS = {
    "clean_accuracy": "The share of unchanged inputs that the model gets right.",
    "accuracy_gap": "How far the worst-served class or group lies below the best-served one; 0 means all fare alike.",
    "expected_calibration_error": "How far the stated confidence lies from how often the model is right, on average; "
    "0 means the confidence can be taken at its word.",
    "maximum_calibration_error": "The largest distance, over all levels of confidence, between how sure the model "
    "says it is and how often it is right.",
    "overconfidence": "How much surer the model is than it is right, on average; 0 is as it should be.",
    "mean_confidence": "How sure the model says it is, on average.",
    "brier_score": "The squared distance between stated probabilities and what was true; 0 is perfect.",
    "negative_log_likelihood": "How surprised the model was by the true answers; 0 is perfect.",
    "robust_accuracy": "The share of inputs that the model still gets right when an adversary may change each of them "
    "within the budget. Attacks can only find errors: a stronger one may find more, never fewer.",
    "certified_accuracy": "The share of inputs that the smoothed model gets right, with a proof that no change up to "
    "this length makes it answer otherwise. No attack can lower it.",
    "smoothed_accuracy": "The share of inputs that the smoothed model answers rightly: its answer is the one that the "
    "model gives most often when noise is added to the input.",
    "abstention_rate": "The share of inputs on which the smoothed model gives no answer, because no class wins "
    "clearly under noise.",
    "average_certified_radius": "How large a change is proved harmless, on average; wrong answers count 0. Larger is "
    "safer.",
    "median_distance": "Half of the inputs can be made wrong by a change no larger than this. Larger is safer.",
    "median_margin": "Half of the inputs lie no further inside their own class than this: so small a change can make "
    "them wrong. Negative where half of them are wrong already.",
    "vulnerable_share": "The share of inputs that the model gets right, but that a change below the radius can make "
    "wrong.",
    "negative_margin_share": "The share of inputs on the wrong side of the decision boundary.",
    "no_boundary_share": "The share of inputs for which no point of the decision boundary was found.",
    "aligned_share": "How often the search ended where a nearest point of the boundary may lie; the more, the "
    "better the margins can be trusted.",
    "conflict_share": "Of the inputs close to the decision boundary, the share that the boundary comes closer to as "
    "training goes on. Smaller is better.",
    "mean_distance": "The average size of the smallest change found that makes an input wrong. Larger is safer.",
}


QUANTITIES = {
    "mean_iou": "For each class, the pixels that are of it and are recognised, as a share of those that are of it or "
    "are taken for it; the mean over classes. 1 is perfect.",
    "mean_class_accuracy": "The share of the pixels of a class that are recognised, as a mean over classes.",
    "pixel_accuracy": "The share of all pixels whose class is recognised; large classes weigh most.",
    "rmse": "How far off the estimated depth is, far misses counting more; 0 is perfect.",
    "abs_rel": "How far off the estimated depth is, as a share of the true depth, on average; 0 is perfect.",
    "silog": "How far off the estimated depth is once its overall scale is taken out; 0 is perfect.",
    "delta1": "The share of pixels whose estimated depth is within a factor of 1.25 of the true one.",
    "delta2": "The share of pixels whose estimated depth is within a factor of 1.25² of the true one.",
    "delta3": "The share of pixels whose estimated depth is within a factor of 1.25³ of the true one.",
    "embedding_cosine_distance": "How far the attack turns the embedding of an image, on average: 0 is not at all, 1 "
    "is at right angles.",
    "embedding_l2_distance": "How far the attack moves the embedding of an image, on average; 1 is as far as from one "
    "clean image to another.",
    "own_nearest": "The share of images whose embedding stays nearer to where it was than to that of any other image.",
}
SHORT_FORMS = {
    "absrel": "AbsRel",
    "auc": "AUC",
    "iou": "IoU",
    "rmse": "RMSE",
    "tpr": "TPR",
    "fpr": "FPR",
    "ppv": "PPV",
    "silog": "SILog",
    "l2": "L2",
    "delta1": "δ1",
    "delta2": "δ2",
    "delta3": "δ3",
}
THRESHOLDS = {"p": "p ≤", "fpr": "a false positive rate of"}
ATTACKED = "Each image counts with the attack that hurt it most; attacks can only find errors."


def number(value: float | None, unit: str = "share") -> str:
    """A value as text: shares in per cent, the rest with three digits, what is missing as a dash.

    >>> number(0.8125), number(float("nan")), number(0.51, "l2"), number(1234.0, "seconds")
    ('81.2\\u202f%', '–', '0.510 L2', '1,234 seconds')
    """
    if value is None or math.isnan(value):
        return DASH
    if unit == "share":
        return f"{_signed(f'{100 * value:.1f}')}\u202f%"
    return f"{_digits(value)} {UNITS.get(unit, unit)}".strip()


def interval(metric: Metric) -> str:
    """The interval of a metric as text, ``"79.0 – 83.2 %"``, or a dash when it has none."""
    return ends(metric.lo, metric.hi, metric.unit)


def ends(lo: float | None, hi: float | None, unit: str) -> str:
    """The ends of an interval as text, or a dash where there is none."""
    if lo is None or hi is None or math.isnan(lo) or math.isnan(hi):
        return DASH
    if unit == "share":
        return f"{_signed(f'{100 * lo:.1f}')} – {_signed(f'{100 * hi:.1f}')}\u202f%"
    return f"{_digits(lo)} – {_digits(hi)}"


def metric_title(name: str) -> str:
    """The name of a metric in words.

    >>> [metric_title(name) for name in ("robust_accuracy@linf:8/255", "median_distance@l2", "accuracy_gap@group")]
    ['Robust accuracy at L∞ 8/255', 'Median distance in L2', 'Accuracy gap (group)']
    >>> metric_title("clean_mean_iou")
    'Clean mean IoU'
    >>> metric_title("true_positive_rate@p:0.001"), metric_title("auc")
    ('True positive rate at p ≤ 0.001', 'AUC')
    """
    base, _, suffix = name.partition("@")
    words = " ".join(SHORT_FORMS.get(word, word) for word in base.strip().replace("abs_rel", "absrel").split("_"))
    title = words[:1].upper() + words[1:]
    if not suffix:
        return title
    norm, colon, budget = suffix.partition(":")
    if norm in THRESHOLDS and colon:
        return f"{title} at {THRESHOLDS[norm]} {budget}"
    if norm not in NORM_SYMBOLS:
        return f"{title} ({suffix})"
    return f"{title} at {NORM_SYMBOLS[norm]} {budget}" if colon else f"{title} in {NORM_SYMBOLS[norm]}"


def category(value: float | str) -> str:
    """The name of a bar, or of a column; a whole number is written as one."""
    return value if isinstance(value, str) else f"{value:,.10g}"


def explanation(metric: Metric) -> str:
    """What a metric means, in a sentence or two: the standard ones, or the estimand its probe states."""
    base = metric.name.partition("@")[0]
    if base in EXPLANATIONS:
        return EXPLANATIONS[base]
    prefix, _, rest = base.partition("_")
    quantity = QUANTITIES.get(rest if prefix in ("clean", "robust") else base, "")
    if quantity:
        return f"{quantity} {ATTACKED}" if prefix == "robust" else quantity
    return metric.estimand[:1].upper() + metric.estimand[1:]


def stratum_name(stratum: str) -> tuple[str, str]:
    """Kind and member of a stratum.

    >>> stratum_name("class=3"), stratum_name("group=a=b"), stratum_name("rest")
    (('class', '3'), ('group', 'a=b'), ('stratum', 'rest'))
    """
    kind, equals, member = stratum.partition("=")
    return (kind, member) if equals else ("stratum", stratum)


def claim_sentence(verdict: Verdict) -> str:
    """A claim as a sentence: ``"Robust accuracy at L∞ 8/255 is at least 40.0 %"``."""
    claim = verdict.claim
    unit = verdict.metric.unit if verdict.metric is not None else ""
    subject = metric_title(claim.metric)
    if claim.stratum:
        subject += " for {} {}".format(*stratum_name(claim.stratum))
    certain = ", the interval's unfavourable end included" if claim.confident else ""
    threshold = f"{100 * claim.threshold:.6g}\u202f%" if unit == "share" else f"{claim.threshold:.6g}"
    return f"{subject} is {OPERATORS.get(claim.op, claim.op)} {threshold}{certain}"


def date(text: str) -> str:
    """A moment of the record for people; what is no such moment stays as it is.

    >>> date("2026-02-03T09:30:00+00:00"), date("yesterday")
    ('3 February 2026, 09:30 UTC', 'yesterday')
    """
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return text
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment:%Y, %H:%M} UTC"


def threat(settings: Mapping[str, Any], bounds: Any = (0.0, 1.0)) -> list[str]:
    """Threat model and budget in sentences; nothing for a probe without an adversary."""
    norm = settings.get("norm")
    if norm not in NORM_SYMBOLS:
        return []
    budgets = _budgets(settings.get("eps"))
    sentences = [_reach(str(norm), budgets, bounds)]
    attack = settings.get("attack")
    if "runs" in settings or ("attacks" in settings and "task" in settings):
        return [*sentences, *_spaces(settings)]
    if attack != "square":
        sentences.append("The adversary knows the model and its weights, and sees the true answer.")
    else:
        sentences.append("The adversary sees only the scores that the model gives, and the true answer.")
    if isinstance(attack, str):
        sentences.append(f"Attack: {attack}.")
    return sentences


def _spaces(settings: Mapping[str, Any]) -> list[str]:
    """What adversaries of an encoder know, by the space in which they attack."""
    sentences = ["Attacks on the embedding know the encoder and its weights, but neither the true answer nor any head."]
    if settings.get("task") != "embedding":
        sentences.append("Attacks on the output also know the head, and see the true answer.")
    return sentences


def _reach(norm: str, budgets: list[float], bounds: Any) -> str:
    length = {
        "linf": "change every value of the input",
        "l2": "change the input by a total Euclidean (L2) length of",
        "l1": "change the input by absolute changes (L1) that add up to",
    }[norm]
    if not budgets:
        return (
            f"An adversary may change the input as far as is needed to make the model wrong; the smallest such change "
            f"is measured in {NORM_SYMBOLS[norm]}"
            + (" (the largest change of any single value)." if norm == "linf" else " (its total length).")
        )
    low, high = (float(bound) for bound in bounds)
    listed = " or ".join(filter(None, [", ".join(map(budget_text, budgets[:-1])), budget_text(budgets[-1])]))
    if norm == "linf":
        shares = ", ".join(f"{100 * budget / (high - low):.2g}" for budget in budgets)
        return f"An adversary may {length} by at most {listed} ({shares}\u202f% of the range of a value)."
    return f"An adversary may {length} at most {listed}, on values that range from {low:g} to {high:g}."


def _budgets(value: Any) -> list[float]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [float(item) for item in values if isinstance(item, (int, float)) and not isinstance(item, bool)]


def plural(count: int, word: str) -> str:
    """A count with its noun.

    >>> plural(1, "claim"), plural(1200, "claim"), plural(2, "forward pass")
    ('1 claim', '1,200 claims', '2 forward passes')
    """
    ending = "" if count == 1 else "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{ending}"


def size(count: float) -> str:
    """Bytes as text: ``"1.5 GiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def duration(seconds: float) -> str:
    """Seconds as text: ``"4.2 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _digits(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return _signed(text)


def _signed(text: str) -> str:
    """A number with a real minus sign, and none before zero."""
    return re.sub(r"^-(?=.*[1-9])", "−", re.sub(r"^-(?=[0.]*$)", "", text))
