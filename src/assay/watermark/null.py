"""Probe: whether p-values mean what they say, on text that carries no mark, under many random keys.

A p-value is right if, of texts without the mark, at most a share α has ``p <= α``, for every α. Text of people is not
random ids: phrases come back, and a phrase that comes back scores the same each time. Each text is examined under
many keys, drawn for this purpose, so that there are documents times keys p-values; no secret key is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import bdtrc, betaincinv, chdtrc

from ..core.errors import DataError, SettingError
from ..core.estimates import Estimate, bootstrap, proportion
from ..core.methods import MethodCard
from ..core.probes import Cost, Figure, Finding, Mark, Measurement, Metric, Series
from ..core.progress import Progress
from ..core.seeds import seed
from ..core.settings import option, settings
from .rates import SUSPICIOUS, passes, repeats, too_short
from .scoring import NO_WINDOWS, check_windows
from .statistics import Null, normal_tail
from .watermark import Watermark

if TYPE_CHECKING:
    from ..core.shards import Shards
    from .settings import WatermarkSettings

CARD = MethodCard(
    name="watermark-null",
    kind="probe",
    title="Calibration of a watermark detector",
    summary="Whether text without the mark has small p-values no more often than it should.",
    settings="WatermarkNull",
)

FEWEST_EXPECTED = 10
DOUBTFUL = 0.01
EXACT, WINDOWS = "exact", "WinMax"
KINDS = {
    EXACT: "log10_p",
    WINDOWS: "window_log10_p",
    "repeats counted": "repeating_log10_p",
    "normal": "normal_log10_p",
}
"""Kinds of p-values: those that are offered, and two that show what goes wrong without care."""
OFFERED = (EXACT, WINDOWS)
_POINTS = 120
_FEWEST_KEYS = 10


@dataclass(kw_only=True)
class HumanTexts:
    """What the probe examines.

    Args:
        settings: of the mark; its key is not needed.
        documents: ids of documents without the mark.
        names: one a document; default: their numbers.
        seed: root of the random streams, of the keys too.
        shards: where finished keys are kept.
        progress: where progress is shown.
    """

    settings: WatermarkSettings
    documents: Sequence[np.ndarray]
    names: Sequence[str] = ()
    seed: int = 0
    shards: Shards | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))


@settings
class WatermarkNull:
    """Settings of the check of p-values."""

    keys: int = option(default=100, help="random keys under which every document is examined", at_least=1)
    alphas: tuple[float, ...] = option(
        default=(0.05, 0.01, 1e-3, 1e-4), help="error rates that are checked", above=0, below=1
    )
    windows: str = option(default=NO_WINDOWS, help="window sizes: geometric, max, a list such as 20,50, or none")
    window_keys: int = option(default=5, help="keys under which windows are examined, which takes longer", at_least=1)
    length: int = option(default=0, help="cut documents into pieces of so many tokens; 0: leave them", at_least=0)

    def __post_init__(self) -> None:
        check_windows(self.windows)
        if not self.alphas:
            raise SettingError("WatermarkNull.alphas is empty; give at least one error rate, such as 0.01.")
        object.__setattr__(self, "alphas", tuple(sorted(set(self.alphas), reverse=True)))

    def expected_cost(self, *, samples: int, classes: int = 0) -> Cost:
        """No pass of a model: detection needs none."""
        return Cost()

    def measure(self, examination: Any) -> Measurement:
        """Shares of small p-values beside what they should be; needs :class:`HumanTexts`."""
        if not isinstance(examination, HumanTexts):
            return Measurement(not_applicable="this probe examines text of people; use assay watermark calibrate.")
        texts, started = examination, time.monotonic()
        names, documents = pieces(texts, self.length)
        tables = []
        with texts.progress.task("Random keys", total=self.keys) as task:
            for number in range(self.keys):
                tables.append(self._under(number, texts, documents))
                task.advance()
        shown = [table for table in tables if "window_log10_p" in table]
        columns = {
            name: np.stack([table[name] for table in (shown if name.startswith("window") else tables)])
            for name in tables[0]
        }
        used = {kind: columns[name] for kind, name in KINDS.items() if name in columns}
        return Measurement(
            metrics=[
                metric for kind, log10_p in used.items() for metric in self._metrics(kind, log10_p, len(documents))
            ],
            samples=_samples(names, columns),
            findings=self._findings(used, columns, documents),
            figures=[_quantiles(used), *_by_alpha(used, self.alphas)],
            cost=Cost(seconds=time.monotonic() - started),
        )

    def _under(self, number: int, texts: HumanTexts, documents: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """All columns under one key."""
        name = f"key/{number}"
        if texts.shards is not None and name in texts.shards:
            return texts.shards.get(name)
        watermark = Watermark.from_settings(texts.settings, key=random_key(texts.settings, texts.seed, number))
        windows = self.windows if number < self.window_keys else NO_WINDOWS
        found = columns_under(watermark, documents, windows)
        if texts.shards is not None:
            texts.shards.put(name, **found)
        return found

    def _metrics(self, kind: str, log10_p: np.ndarray, documents: int) -> list[Metric]:
        return [
            Metric.from_estimate(
                f"{'windowed_' * (kind == WINDOWS)}false_positive_rate@p:{alpha:g}",
                rate(log10_p, alpha),
                estimand=f"share of p-values at most {alpha:g} ({kind}), over {documents} documents without the mark "
                f"and {len(log10_p)} random keys; at most {alpha:g} is right",
                unit="",  # as a plain number: in per cent, small rates would round to nothing
                direction="lower",
                stratum="" if kind in OFFERED else f"kind={kind}",
            )
            for alpha in self.alphas
        ]

    def _findings(
        self, used: dict[str, np.ndarray], columns: dict[str, np.ndarray], documents: Sequence[np.ndarray]
    ) -> list[Finding]:
        found = [*too_short(columns["scored"][0]), *repeats(documents)]
        for kind in OFFERED:
            if kind in used:
                found += _judged(kind, used[kind], self.alphas)
        found += _repetition(used, columns, self.alphas)
        found += _normal(used, self.alphas)
        found += _disagreement(used[EXACT], self.alphas)
        total = used[EXACT].size
        thin = [alpha for alpha in self.alphas if total * alpha < FEWEST_EXPECTED]
        if thin:
            rates = ", ".join(f"{alpha:g}" for alpha in thin)
            found.append(
                Finding(
                    code="too-few-p-values",
                    severity="warning",
                    message=f"{total:,} p-values are too few to check an error rate of {rates}: fewer than "
                    f"{FEWEST_EXPECTED} small ones are expected.",
                    remedy="Give more text or more keys: "
                    f"{math.ceil(FEWEST_EXPECTED / thin[-1] - 1e-6):,} p-values are needed.",
                    value=float(total),
                )
            )
        return found


def random_key(settings: WatermarkSettings, root: int, number: int) -> int:
    """A key for checks, from a named seed: of 32 bits where the scheme acts through no more."""
    drawn = seed(root, "watermark-null", "key", number)
    wide = settings.recipe.family in ("philox", "gumbel", "unigram")
    return drawn % (2**63 if wide else 2**32 - 1) + (0 if wide and drawn else 1)


def columns_under(watermark: Watermark, documents: Sequence[np.ndarray], windows: str = NO_WINDOWS) -> dict[str, Any]:
    """P-values of every document under one key: exact, with repeats counted each time, normal, and by windows.

    Returns:
        Columns [N]: ``scored``, ``repeated``, ``z``, ``log10_p``, ``repeating_log10_p``, ``normal_log10_p``, and
        with windows ``window_log10_p``.
    """
    null = Null.of(watermark.scheme)
    plain = list(watermark.detect_many(documents))
    sums = np.array([float(one.values.sum()) for one in plain])
    counts = np.array([len(one.values) for one in plain], dtype=np.int64)
    scored = np.array([one.scored for one in plain], dtype=np.int64)
    z = np.array([one.z for one in plain], dtype=np.float64)
    repeating = np.where(counts > 0, null.log_tail(sums, np.maximum(counts, 1), distinct=False), 0.0)
    found: dict[str, Any] = {
        "scored": scored,
        "repeated": counts - scored,
        "z": z,
        "log10_p": np.array([one.log10_p for one in plain], dtype=np.float64),
        "repeating_log10_p": np.minimum(repeating / math.log(10), 0.0),
        "normal_log10_p": np.log10(np.maximum(normal_tail(z), 1e-300)),
    }
    if windows != NO_WINDOWS:
        spans = [watermark.detect_windows(ids, sizes=windows) for ids in documents]
        found["window_log10_p"] = np.log10(np.maximum([one.p_value for one in spans], 1e-300))
    return found


def pieces(texts: HumanTexts, length: int) -> tuple[list[str], list[np.ndarray]]:
    """Names and ids of the documents, or of pieces of ``length`` tokens of them; a rest is left out.

    Raises:
        DataError: nothing is left.
    """
    given = [str(name) for name in texts.names] or [str(number) for number in range(len(texts.documents))]
    if not length:
        names, found = given, [np.asarray(ids, dtype=np.int64) for ids in texts.documents]
    else:
        cut = [
            (f"{name}#{start // length}", np.asarray(ids[start : start + length], dtype=np.int64))
            for name, ids in zip(given, texts.documents, strict=True)
            for start in range(0, len(ids) - length + 1, length)
        ]
        names, found = [name for name, _ in cut], [ids for _, ids in cut]
    if not found:
        longest = max((len(ids) for ids in texts.documents), default=0)
        more = f" The longest of {len(texts.documents)} has {longest} tokens, and pieces of {length} were asked for."
        raise DataError(f"There is no document to examine.{more * bool(length)} Give longer ones, or a smaller length.")
    return names, found


def rate(log10_p: np.ndarray, alpha: float) -> Estimate:
    """The share of p-values at most ``alpha``, [keys, documents], with an interval for documents that may be alike.

    Documents that share n-grams score alike under one key. The interval is Clopper and Pearson's, or that of the
    bootstrap over whole keys where this is wider.
    """
    small = passes(log10_p, alpha)
    exact = proportion(int(small.sum()), small.size)
    if len(small) < _FEWEST_KEYS:
        return exact
    keys = np.repeat(np.arange(len(small)), small.shape[1])
    drawn = bootstrap(small.reshape(-1).astype(np.float64), clusters=keys)
    wider = drawn.lo < exact.lo or drawn.hi > exact.hi
    method = "clopper-pearson or bootstrap over keys" if wider else exact.method
    return Estimate(value=exact.value, lo=min(exact.lo, drawn.lo), hi=max(exact.hi, drawn.hi), n=exact.n, method=method)


def _judged(kind: str, log10_p: np.ndarray, alphas: Sequence[float]) -> list[Finding]:
    """A verdict for each kind of p-value: too small, perhaps too small, or as they should be."""
    said, smallest = [], 1.0
    for alpha in alphas:
        hits, chance = int(passes(log10_p, alpha).sum()), _chance(log10_p, alpha)
        smallest = min(smallest, chance)
        if chance < DOUBTFUL:
            said.append(f"{hits:,} of {log10_p.size:,} at {alpha:g}, where {log10_p.size * alpha:.3g} were expected")
    if said:
        sure = smallest < SUSPICIOUS
        verb = "are" if sure else "seem to be"
        return [
            Finding(
                code="p-values-too-small" if sure else "p-values-doubtful",
                severity="serious" if sure else "warning",
                message=f"P-values ({kind}) {verb} too small on this text: {'; '.join(said)}.",
                remedy="Make sure that the text carries no mark and that documents share no passages; then ask for "
                "more evidence, or use another scheme."
                if sure
                else "Repeat this with more keys or more text.",
                value=smallest,
            )
        ]
    checked = [f"{alpha:g}" for alpha in alphas if log10_p.size * alpha >= FEWEST_EXPECTED]
    if not checked:
        return []
    return [
        Finding(
            code="p-values-hold",
            severity="info",
            message=f"P-values ({kind}) are not too small on this text, as far as {log10_p.size:,} of them tell, at "
            f"error rates of {', '.join(checked)}.",
        )
    ]


def _chance(log10_p: np.ndarray, alpha: float) -> float:
    """How likely so many small p-values are if all is right; [keys, documents].

    The larger of two answers: of the binomial distribution of all, and, with enough keys, of the rates by key, which
    are independent of each other also where documents under one key are not.
    """
    small = passes(log10_p, alpha)
    hits = int(small.sum())
    if not hits:
        return 1.0
    binomial = float(bdtrc(hits - 1, small.size, alpha))
    if len(small) < _FEWEST_KEYS:
        return binomial
    rates = small.mean(axis=1)
    deviation = float(rates.std(ddof=1)) / math.sqrt(len(rates))
    return max(binomial, float(normal_tail((rates.mean() - alpha) / deviation)) if deviation else 0.0)


def _repetition(used: dict[str, np.ndarray], columns: dict[str, np.ndarray], alphas: Sequence[float]) -> list[Finding]:
    """How repetitive the text is, and what that would do to p-values that count repeats each time."""
    scored, repeated = int(columns["scored"][0].sum()), int(columns["repeated"][0].sum())
    share = repeated / max(1, scored + repeated)
    worst = [alpha for alpha in alphas if _chance(used["repeats counted"], alpha) < SUSPICIOUS]
    if not worst:
        return []
    observed = float(passes(used["repeats counted"], worst[-1]).mean())
    return [
        Finding(
            code="repetition",
            severity="info",
            message=f"{share:.1%} of the n-grams repeat others of their document. Were they counted each time, "
            f"{observed:.3g} of the p-values would be at most {worst[-1]:g}.",
            remedy="Leave the counting of repeated n-grams as it is: once.",
            value=share,
        )
    ]


def _normal(used: dict[str, np.ndarray], alphas: Sequence[float]) -> list[Finding]:
    worst = [alpha for alpha in alphas if _chance(used["normal"], alpha) < SUSPICIOUS]
    if not worst:
        return []
    observed = float(passes(used["normal"], worst[-1]).mean())
    return [
        Finding(
            code="normal-approximation",
            severity="info",
            message=f"By the normal approximation, which is the published p-value, {observed:.3g} of the p-values "
            f"would be at most {worst[-1]:g}.",
            remedy="Use the exact p-value, not z.",
            value=observed,
        )
    ]


def _disagreement(log10_p: np.ndarray, alphas: Sequence[float]) -> list[Finding]:
    """Whether keys differ by more than chance: then one fixed key errs more, or less, than its p-values say."""
    keys, documents = log10_p.shape
    alpha = next((alpha for alpha in reversed(alphas) if documents * alpha >= 5), None)
    if alpha is None or keys < _FEWEST_KEYS:
        return []
    counts = passes(log10_p, alpha).sum(axis=1)
    share = counts.mean() / documents
    if not 0 < share < 1:
        return []
    spread = float(((counts - counts.mean()) ** 2).sum() / (documents * share * (1 - share)))
    if float(chdtrc(keys - 1, spread)) >= SUSPICIOUS:
        return []
    return [
        Finding(
            code="keys-differ",
            severity="warning",
            message=f"Keys differ by more than chance: the share of p-values at most {alpha:g} lies between "
            f"{counts.min() / documents:.3g} and {counts.max() / documents:.3g}, {spread / (keys - 1):.1f} times the "
            "variance of independent documents. Documents share n-grams, which score alike under one key.",
            remedy="Rates hold over keys, not for each one: look at this text with your key, by 'assay watermark "
            "detect', or use a mark with a wider context.",
            value=spread / (keys - 1),
        )
    ]


def _samples(names: Sequence[str], columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A row for every key and document; windows only where they were examined."""
    keys = len(columns["z"])
    rows: dict[str, np.ndarray] = {
        "key": np.repeat(np.arange(keys), len(names)),
        "document": np.tile(np.array(names, dtype=object), keys),
    }
    for name, values in columns.items():
        flat = np.full((keys, len(names)), np.nan) if len(values) < keys else values
        flat[: len(values)] = values
        rows[name] = flat.reshape(-1)
    return rows


def _quantiles(used: dict[str, np.ndarray]) -> Figure:
    """Observed against expected quantiles of -log10 p, with the band in which they lie by chance."""
    total = used[EXACT].size
    ranks = np.unique(np.geomspace(1, total, _POINTS).astype(np.int64))
    ends = [-np.log10(betaincinv(ranks, total - ranks + 1, tail)) for tail in (0.975, 0.025)]
    expected = -np.log10(ranks / (total + 1))
    series = [
        Series(
            label="as expected",
            x=tuple(expected.tolist()),
            y=tuple(expected.tolist()),
            lo=tuple(ends[0].tolist()),
            hi=tuple(ends[1].tolist()),
        )
    ]
    for kind, log10_p in used.items():
        own = -np.sort(log10_p.reshape(-1))
        places = np.unique(np.geomspace(1, len(own), _POINTS).astype(np.int64))
        series.append(
            Series(
                label=kind,
                x=tuple((-np.log10(places / (len(own) + 1))).tolist()),
                y=tuple(own[places - 1].tolist()),
            )
        )
    return Figure(
        name="quantiles",
        title="Small p-values: observed against expected",
        caption=f"Sorted p-values of text without the mark, n = {total:,}; the band holds 95% of independent exact "
        "p-values at each place. Above it p-values are too small; below it they are cautious, as exact p-values of "
        "counts are.",
        kind="line",
        x_label="expected -log10 p",
        y_label="observed -log10 p",
        series=tuple(series),
    )


def _by_alpha(used: dict[str, np.ndarray], alphas: Sequence[float]) -> list[Figure]:
    """Observed error rates as multiples of the stated ones, where enough small p-values are expected."""
    series, highest = [], 2.0
    for kind, log10_p in used.items():
        shown = [alpha for alpha in sorted(alphas) if log10_p.size * alpha >= FEWEST_EXPECTED]
        rates = [rate(log10_p, alpha) for alpha in shown]
        ends = [
            tuple(end / alpha for end, alpha in zip(values, shown, strict=True))
            for values in ([r.value for r in rates], [r.lo for r in rates], [r.hi for r in rates])
        ]
        series.append(Series(label=kind, x=tuple(shown), y=ends[0], lo=ends[1], hi=ends[2]))
        highest = max([highest, *ends[0], *(ends[2] if kind in OFFERED else ())])
    series = [line for line in series if line.x]
    if not series or max(len(line.x) for line in series) < 2:
        return []
    return [
        Figure(
            name="error-rates",
            title="False positives: observed over stated",
            caption="Share of p-values at most α, divided by α, with 95% intervals; 1 is as stated, below is cautious.",
            kind="line",
            x_label="stated false positive rate α",
            y_label="observed / stated",
            series=tuple(series),
            y_limits=(0.0, highest),
            x_scale="log",
            marks=(Mark(axis="y", value=1.0),),
        )
    ]
