"""Probe: how well marked text is told from other text, plainly and by windows.

The score of a text is ``-log10 p``, p being the chance that text which knows nothing of the key scores as well. Two
kinds of true positive rates are told apart. At a stated error rate α, texts with ``p <= α`` are called marked: that is
what a detector in use does, and α needs no unmarked text to be believed, but it should be checked on some
(``false_positive_rate``). At an empirical error rate, the threshold is read off the unmarked texts, of which a rate
of α needs at least 1/α.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import bdtrc

from ..core.errors import SettingError
from ..core.estimates import proportion
from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Figure, Finding, Mark, Measurement, Metric, Series
from ..core.progress import Progress
from ..core.roc import Roc, roc, roc_figure
from ..core.seeds import seed
from ..core.settings import option, settings
from .scoring import check_windows, columns_of, mean, score

if TYPE_CHECKING:
    from ..core.shards import Shards
    from .watermark import Watermark

CARD = MethodCard(
    name="watermark-roc",
    kind="probe",
    title="Detection of a watermark",
    summary="How well marked text is told from other text, at stated and at measured error rates.",
    settings="WatermarkRates",
    citation=Citation(
        key="kirchenbauer2023watermark",
        title="A Watermark for Large Language Models",
        authors="Kirchenbauer, John and Geiping, Jonas and Wen, Yuxin and Katz, Jonathan and Miers, Ian and "
        "Goldstein, Tom",
        year=2023,
        venue="International Conference on Machine Learning",
        arxiv="2301.10226",
    ),
)

SUSPICIOUS = 1e-3
CHECKED = (0.05, 0.01, 0.001)
NAMES = {"": "plain", "windowed_": "WinMax"}
_BINS = 40


@dataclass(kw_only=True)
class Texts:
    """What the probe examines.

    Args:
        watermark: the mark that is looked for.
        marked: ids of documents that carry the mark.
        unmarked: ids of documents that do not.
        names: one a document, marked ones first; default: their numbers.
        seed: root of the random streams.
        shards: where finished blocks are kept.
        progress: where progress is shown.
    """

    watermark: Watermark
    marked: Sequence[np.ndarray]
    unmarked: Sequence[np.ndarray]
    names: Sequence[str] = ()
    seed: int = 0
    shards: Shards | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))


@settings
class WatermarkRates:
    """Settings of the measurement of detection rates."""

    fprs: tuple[float, ...] = option(
        default=(1e-3, 1e-5), help="false positive rates, stated and measured", above=0, below=1
    )
    windows: str = option(default="geometric", help="window sizes: geometric, max, a list such as 20,50, or none")
    unique_ngrams: bool = option(default=True, help="count repeated n-grams once")
    resamples: int = option(default=2000, help="bootstrap draws", at_least=100, at_most=100_000)

    def __post_init__(self) -> None:
        check_windows(self.windows)
        if not self.fprs:
            raise SettingError("WatermarkRates.fprs is empty; give at least one false positive rate, such as 1e-3.")
        object.__setattr__(self, "fprs", tuple(sorted(set(self.fprs), reverse=True)))

    def expected_cost(self, *, samples: int, classes: int = 0) -> Cost:
        """No pass of a model: detection needs none."""
        return Cost()

    def measure(self, examination: Any) -> Measurement:
        """Areas, rates and scores; needs :class:`Texts`."""
        if not isinstance(examination, Texts):
            return Measurement(not_applicable="this probe examines marked text; use assay watermark roc.")
        texts, started = examination, time.monotonic()
        groups = [
            score(
                texts.watermark,
                documents,
                windows=self.windows,
                unique=self.unique_ngrams,
                shards=texts.shards,
                name=name,
                progress=texts.progress,
            )
            for name, documents in (("marked documents", texts.marked), ("unmarked documents", texts.unmarked))
        ]
        table = {name: np.concatenate([groups[0][name], groups[1][name]]) for name in groups[0]}
        marked = np.arange(len(table["z"])) < len(texts.marked)
        found = columns_of(table)
        curves = {name: roc(-table[column], marked) for name, _, column in found}
        return Measurement(
            metrics=[
                metric
                for name, z, column in found
                for metric in self._metrics(name, curves[name], table[z], table[column], marked, texts.seed)
            ],
            samples={"document": _names(texts, len(marked)), "marked": marked, **table},
            findings=[
                *curves[""].findings(self.fprs),
                *(one for name, _, column in found for one in too_many(name, table[column][~marked])),
                *too_short(table["scored"]),
                *repeats(texts.marked, texts.unmarked),
            ],
            figures=[
                roc_figure(
                    {NAMES[name]: curve for name, curve in curves.items()},
                    title="Marked against unmarked text",
                    fprs=self.fprs,
                ),
                _histogram(table["z"], marked),
            ],
            cost=Cost(seconds=time.monotonic() - started),
        )

    def _metrics(
        self, name: str, curve: Roc, z: np.ndarray, log10_p: np.ndarray, marked: np.ndarray, root: int
    ) -> list[Metric]:
        how = "by plain detection" if not name else "by the best window"
        area = curve.interval("auc", resamples=self.resamples, seed=seed(root, "watermark-roc", name, "auc"))
        found = [
            Metric.from_estimate(
                f"{name}auc",
                area,
                estimand=f"chance that a marked document has a smaller p-value than an unmarked one, {how}",
            )
        ]
        for fpr in self.fprs:
            found += stated(name, log10_p[marked], fpr, what="true_positive_rate", who="marked", direction="higher")
        for fpr in self.fprs:
            found += stated(name, log10_p[~marked], fpr, what="false_positive_rate", who="unmarked", direction="lower")
        found += [
            Metric.from_estimate(
                f"{name}true_positive_rate@fpr:{fpr:g}",
                curve.interval(fpr),
                estimand=f"share of marked documents found {how} at the threshold that {fpr:g} of unmarked ones pass",
            )
            for fpr in self.fprs
        ]
        for who, chosen in (("marked", marked), ("unmarked", ~marked)):
            found.append(
                Metric.from_estimate(
                    f"{name}mean_z@{who}",
                    mean(z[chosen], seed=seed(root, "watermark-roc", name, who)),
                    estimand=f"mean z of {who} documents, {how}",
                    unit="",
                    direction="none",
                )
            )
        return found


def stated(name: str, log10_p: np.ndarray, alpha: float, *, what: str, who: str, direction: str) -> list[Metric]:
    """The share of documents with ``p <= alpha``, with its exact interval."""
    how = "" if not name else " by the best window"
    return [
        Metric.from_estimate(
            f"{name}{what}@p:{alpha:g}",
            proportion(int(passes(log10_p, alpha).sum()), len(log10_p)),
            estimand=f"share of {who} documents called marked{how} because their p-value is at most {alpha:g}",
            direction=direction,
        )
    ]


def passes(log10_p: np.ndarray, alpha: float) -> np.ndarray:
    """Whether ``p <= alpha``, for p-values given as logarithms, which may lie below the smallest number."""
    return np.asarray(log10_p <= np.log10(alpha) + 1e-12)


def too_many(name: str, log10_p: np.ndarray) -> list[Finding]:
    """A finding if unmarked documents pass more often than their p-values say."""
    for alpha in CHECKED:
        hits, n = int(passes(log10_p, alpha).sum()), len(log10_p)
        chance = float(bdtrc(hits - 1, n, alpha)) if hits else 1.0
        if chance < SUSPICIOUS:
            how = "by the best window" if name else "plainly"
            return [
                Finding(
                    code="p-values-too-small",
                    severity="serious",
                    message=f"{hits} of {n} unmarked documents have p <= {alpha:g} when detected {how}; "
                    f"{n * alpha:.3g} were expected, and so many come about by chance with probability {chance:.1g}.",
                    remedy="Check that these documents are unmarked, and that repeated n-grams count once; "
                    "'assay watermark calibrate' tells more.",
                    value=hits / n,
                )
            ]
    return []


def too_short(scored: np.ndarray) -> list[Finding]:
    """A finding if documents have nothing to be scored."""
    empty, n = int((scored == 0).sum()), len(scored)
    if not empty:
        return []
    return [
        Finding(
            code="nothing-scored",
            severity="warning",
            message=f"{empty} of {n} documents are too short to hold one n-gram; their p-value is 1.",
            remedy="Leave documents out that are shorter than the context of the mark.",
            value=empty / n,
        )
    ]


def repeats(*groups: Sequence[np.ndarray]) -> list[Finding]:
    """A finding if documents are repeated: intervals take them for independent."""
    seen = [np.asarray(ids, dtype="<i8").tobytes() for group in groups for ids in group]
    again = len(seen) - len(set(seen))
    if not again:
        return []
    return [
        Finding(
            code="repeated-documents",
            severity="warning",
            message=f"{again} of {len(seen)} documents are copies of others; intervals take them for independent.",
            remedy="Give every document once.",
            value=again / len(seen),
        )
    ]


def _names(texts: Texts, count: int) -> np.ndarray:
    names = [str(name) for name in texts.names] or [str(number) for number in range(count)]
    return np.array(names, dtype=object)


def _histogram(z: np.ndarray, marked: np.ndarray) -> Figure:
    """The distribution of z of both groups, on common bins."""
    finite = z[np.isfinite(z)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    middles = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    series = []
    for label, chosen in (("unmarked", ~marked), ("marked", marked)):
        counts, _ = np.histogram(z[chosen & np.isfinite(z)], edges)
        series.append(Series(label=label, x=middles, y=tuple((counts / max(1, int(chosen.sum()))).tolist())))
    return Figure(
        name="z",
        title="z of marked and unmarked documents",
        caption=f"Plain detection of {int(marked.sum()):,} marked and {int((~marked).sum()):,} unmarked documents.",
        kind="histogram",
        x_label="z",
        y_label="share of documents",
        series=tuple(series),
        marks=(Mark(axis="x", value=4.0, label="z = 4"),) if edges[0] < 4 < edges[-1] else (),
    )
