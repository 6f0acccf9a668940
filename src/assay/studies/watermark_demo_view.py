"""What the demonstration of a watermark measures and shows: rates, evidence by length, perplexity, coloured tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.estimates import Estimate, bootstrap, proportion
from ..core.passages import NONE, Passage, Passages
from ..core.probes import Cost, Figure, Finding, Mark, Measurement, Metric, Series
from ..core.progress import Progress
from ..watermark.colouring import token_marks
from ..watermark.perplexity import Perplexity, perplexity

if TYPE_CHECKING:
    from ..subjects.language import LanguageModel
    from ..watermark.detection import Detection
    from ..watermark.watermark import Watermark
    from .watermark_demo import Demonstration, Text

KINDS = ("marked", "unmarked", "human")
NAMES = {"marked": "with the mark", "unmarked": "without the mark", "human": "by people"}
POINTS = 20


def measure(
    lm: LanguageModel,
    watermark: Watermark,
    plan: Demonstration,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Text],
    seed: int,
    progress: Progress,
) -> Measurement:
    """Detect the mark in all texts, and measure their perplexity under the model that wrote them.

    Args:
        lm: the model.
        watermark: the mark.
        plan: of the demonstration.
        prompts: the prompts as ids.
        texts: of all kinds, in the order of their kinds and prompts.
        seed: of the bootstrap.
        progress: where to show progress.
    """
    found = watermark.detect_many([text.read.ids for text in texts])
    known = [list(prompts[text.prompt]) for text in texts]
    quality = perplexity(lm, [text.written.tolist() for text in texts], known, seed=seed, progress=progress)
    written = watermark.detect_many([text.written for text in texts])
    tokens = int(sum(len(text.written) for text in texts))
    return Measurement(
        metrics=[*_rates(texts, found, plan), *_quality(texts, quality, seed), *_evidence(texts, found, seed)],
        samples={
            "kind": np.array([text.kind for text in texts]),
            "prompt": np.array([text.prompt for text in texts]),
            "tokens": np.array([len(text.read.ids) for text in texts]),
            "scored": np.array([one.scored for one in found]),
            "green": np.array([one.green for one in found]),
            "z": np.array([one.z for one in found]),
            "log10_p": np.array([one.log10_p for one in found]),
            "verdict": np.array([one.verdict(plan.fpr) for one in found]),
            "perplexity": quality.values,
            "z_written": np.array([one.z for one in written]),
        },
        findings=_findings(texts, found, written, plan),
        figures=[_by_length(watermark, texts, plan), _perplexities(texts, quality, seed)],
        cost=Cost(forward=tokens),
        passages=_passages(texts, found, quality, [lm.decode(prompt) for prompt in prompts], plan),
    )


def in_words(log10_p: float) -> str:
    """What a p-value says, as a share.

    >>> in_words(-0.3), in_words(-6), in_words(-24.2)
    ('1 in 2', '1 in 1,000,000', '1 in 1.6 x 10^24')
    """
    if log10_p < -9:
        whole, rest = divmod(-log10_p, 1)
        return f"1 in {10**rest:.1f} x 10^{whole:.0f}"
    return f"1 in {round(10**-log10_p):,}"


def meaning(log10_p: float) -> str:
    """What a p-value means and what it does not, in plain words."""
    return (
        f"p = {p_text(log10_p)} means: of texts written without this key, about {in_words(log10_p)} would look as "
        "marked as this one by mere chance. It is not the chance that the text is human: that depends on how many "
        "marked texts there are to begin with."
    )


def p_text(log10_p: float) -> str:
    """A p-value as text, however small.

    >>> p_text(-1.0), p_text(-400.5)
    ('0.1', '3e-401')
    """
    if log10_p > -300:
        return f"{10**log10_p:.2g}"
    power = math.floor(log10_p)
    return f"{10 ** (log10_p - power):.0f}e{power}"


def _of(texts: Sequence[Text], kind: str) -> list[int]:
    return [place for place, text in enumerate(texts) if text.kind == kind]


def _rates(texts: Sequence[Text], found: Sequence[Detection], plan: Demonstration) -> list[Metric]:
    called = [one.verdict(plan.fpr) == "marked" for one in found]
    groups = {
        "true_positive_rate": (("marked",), "texts written with the mark", "higher"),
        "false_positive_rate": (("unmarked", "human"), "texts written without it, by the model or by people", "lower"),
    }
    metrics = []
    for name, (kinds, who, direction) in groups.items():
        some = [called[place] for kind in kinds for place in _of(texts, kind)]
        metrics.append(
            Metric.from_estimate(
                f"{name}@p:{plan.fpr:g}",
                proportion(sum(some), len(some)),
                estimand=f"Share of {who} whose p-value is at most {plan.fpr:g}.",
                direction=direction,
            )
        )
    return metrics


def _evidence(texts: Sequence[Text], found: Sequence[Detection], seed: int) -> list[Metric]:
    metrics = []
    for kind in KINDS:
        places = _of(texts, kind)
        z = np.array([found[place].z for place in places])
        share = np.array([found[place].green_fraction for place in places])
        way = "higher" if kind == "marked" else "none"
        metrics += [
            Metric.from_estimate(
                f"z_{kind}",
                bootstrap(z, seed=seed),
                estimand=f"Mean z of texts {NAMES[kind]}: how far above chance, in standard deviations.",
                unit="σ",
                direction=way,
            ),
            Metric.from_estimate(
                f"green_share_{kind}",
                bootstrap(share, seed=seed),
                estimand=f"Mean share of green tokens in texts {NAMES[kind]}.",
                direction=way,
            ),
        ]
    return metrics


def _quality(texts: Sequence[Text], quality: Perplexity, seed: int) -> list[Metric]:
    first, second = (quality.losses[_of(texts, kind)] for kind in ("marked", "unmarked"))
    change = bootstrap(first - second, seed=seed)
    ends = [math.exp(value) if math.isfinite(value) else None for value in (change.lo, change.hi)]
    ratio = Metric(
        name="perplexity_ratio",
        estimand="Perplexity with the mark over perplexity without it, prompt by prompt (geometric mean).",
        value=math.exp(change.value),
        lo=ends[0],
        hi=ends[1],
        interval=f"{change.method} {100 * change.level:g}%",
        n=change.n,
        unit="times",
        direction="lower",
    )
    return [
        ratio,
        *(
            Metric.from_estimate(
                f"perplexity_{kind}",
                _corpus(texts, quality, kind, seed),
                estimand=f"exp of the mean -log p of a token in texts {NAMES[kind]}, under the model without the mark.",
                unit="tokens",
                direction="lower" if kind == "marked" else "none",
            )
            for kind in KINDS
        ),
    ]


def _corpus(texts: Sequence[Text], quality: Perplexity, kind: str, seed: int) -> Estimate:
    places = _of(texts, kind)
    sums = quality.losses[places] * quality.tokens[places]
    return bootstrap(
        np.stack([sums, quality.tokens[places]], 1),
        lambda rows: float(np.exp(rows[:, 0].sum() / rows[:, 1].sum())),
        seed=seed,
    )


def _by_length(watermark: Watermark, texts: Sequence[Text], plan: Demonstration) -> Figure:
    """Evidence after the first T tokens: median and middle half of the texts."""
    longest = max(len(text.read.ids) for text in texts)
    lengths = sorted({max(1, round(longest * step / POINTS)) for step in range(1, POINTS + 1)})
    series = []
    for kind in KINDS:
        rows = [texts[place].read.ids for place in _of(texts, kind)]
        found = watermark.detect_many([ids[:length] for length in lengths for ids in rows])
        evidence = -np.array([one.log10_p for one in found]).reshape(len(lengths), len(rows))
        low, middle, high = np.quantile(evidence, (0.25, 0.5, 0.75), axis=1)
        series.append(
            Series(
                label=NAMES[kind],
                x=tuple(map(float, lengths)),
                y=tuple(middle.tolist()),
                lo=tuple(low.tolist()),
                hi=tuple(high.tolist()),
            )
        )
    return Figure(
        name="evidence",
        title="Evidence grows with length",
        caption=f"-log10 of the exact p-value after the first tokens of a text: 6 means one in a million. Median of "
        f"{len(texts) // len(KINDS)} texts of each kind; the band holds the middle half of them.",
        kind="line",
        x_label="tokens read",
        y_label="-log10 p",
        series=tuple(series),
        marks=(Mark(axis="y", value=-math.log10(plan.fpr), label=f"p = {plan.fpr:g}"),),
    )


def _perplexities(texts: Sequence[Text], quality: Perplexity, seed: int) -> Figure:
    values = [_corpus(texts, quality, kind, seed) for kind in KINDS]
    ends = [[value.value if math.isnan(end) else end for end in (value.lo, value.hi)] for value in values]
    return Figure(
        name="perplexity",
        title="What the mark costs",
        caption="Perplexity under the model itself, without the mark: how surprised it is by each token. Lower is more "
        "like what it would write. Bars have bootstrap intervals over texts.",
        kind="bar",
        x_label="text",
        y_label="perplexity (tokens)",
        series=(
            Series(
                label="perplexity",
                x=tuple(NAMES[kind] for kind in KINDS),
                y=tuple(value.value for value in values),
                lo=tuple(low for low, _ in ends),
                hi=tuple(high for _, high in ends),
            ),
        ),
    )


def _findings(
    texts: Sequence[Text], found: Sequence[Detection], written: Sequence[Detection], plan: Demonstration
) -> list[Finding]:
    marked = _of(texts, "marked")
    middle = float(np.median([found[place].log10_p for place in marked]))
    findings = [Finding(code="p-value", severity="info", message=f"Median of the marked texts: {meaning(middle)}")]
    before, after = (float(np.median([one[place].z for place in marked])) for one in (written, found))
    if after < before - 0.5:
        findings.append(
            Finding(
                code="retokenisation",
                severity="info",
                message=f"As it was written, marked text has a median z of {before:.1f}; read again, it falls "
                f"into other tokens in places, which leaves {after:.1f}. All other numbers are of text read again.",
                value=before - after,
            )
        )
    short = [place for place in marked if found[place].verdict(plan.fpr) == "not enough tokens"]
    if short:
        needed = max(found[place].tokens_needed(plan.fpr) for place in short)
        findings.append(
            Finding(
                code="too-short",
                severity="warning",
                message=f"{len(short)} of {len(marked)} marked texts are too short for an error rate of {plan.fpr:g}.",
                remedy=f"Write about {math.ceil(needed):,} tokens, raise delta, or allow more errors."
                if math.isfinite(needed)
                else "Raise delta: with this one no length suffices.",
                value=len(short) / len(marked),
            )
        )
    return findings


def _passages(
    texts: Sequence[Text],
    found: Sequence[Detection],
    quality: Perplexity,
    openings: Sequence[str],
    plan: Demonstration,
) -> list[Passages]:
    rows = []
    for prompt in range(min(plan.shown, len(openings))):
        for kind in KINDS:
            place = next(place for place in _of(texts, kind) if texts[place].prompt == prompt)
            text, one = texts[place], found[place]
            pieces = text.read.pieces(text.text) or []
            caption = (
                f"Prompt {prompt + 1}, continued {NAMES[kind]}: {one.verdict(plan.fpr)} "
                f"(z = {one.z:.1f}, p = {p_text(one.log10_p)}, perplexity {quality.values[place]:.0f})."
            )
            rows.append(
                Passage(
                    caption=caption,
                    pieces=(openings[prompt], *pieces),
                    marks=(NONE, *token_marks(one, len(pieces))),
                )
            )
    about = "The prompt stands first and is not counted; neither are tokens without enough tokens before them."
    return [Passages(title="The texts, token by token", caption=about, rows=tuple(rows))] if rows else []
