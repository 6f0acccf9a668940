"""Likelihood ratio attack: is the target's confidence more like that of models that saw the record, or that did not?

The confidence φ = z_y − log Σ_{c≠y} exp z_c of reference models is taken as normal, once over the models that were
trained with the record (IN) and once over those that were not (OUT). With φ* the target's, c the centres (medians over
models), s the spreads, and the mean over the queries a of a record:

    online               mean_a [ log N(φ*; c_in, s_in²) − log N(φ*; c_out, s_out²) ]
    offline, one-sided   mean_a t((φ* − c_out) / s_out),   t(u) = −log(1 − Φ(u)), or t(u) = u
    offline, two-sided   −mean_a log N(φ*; c_out, s_out²)

Offline needs no model that saw the record. The one-sided form is the paper's (its Φ(u), without the ties to which Φ
rounds); the two-sided form, of the published scripts, calls members also those records that look unusually bad.

The spread s has four conventions, all with the divisor n:

    residual       over all records together, of φ less its record's centre
    per-example    of each record and query for itself, around the mean
    canary-code    over all records together, around the one global mean (as in the code of Canary)
    carlini-code   canary-code of IN for both sides (as in the first published script); offline, of OUT

A spread below 1e-3 of that of all values is raised to it, and reported. With ``joint`` the queries of a record are one
multivariate normal in place of independent ones; the log density is divided by the number of queries, and the
covariance S shrunk to its diagonal D: (1 − w) S + w D, w = K / (K + n) for K queries and n answers. Its centres are
means: where queries are almost copies of each other, medians of each do not fit together.

Cost: one sort of [M, N, K] numbers a side; no passes of a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_ndtr

from ...core.errors import SettingError
from ...core.methods import Citation, MethodCard
from ...core.probes import Finding
from ...core.settings import option, settings
from ..signals import Answers, Scored, Signals, answers_from
from .centres import Group, group
from .joint import joint_log_density

CARD = MethodCard(
    name="lira",
    kind="inference",
    title="Likelihood ratio attack",
    summary="Compares the target's confidence in a record with that of reference models with and without the record.",
    settings="LiRA",
    citation=Citation(
        key="carlini2022membership",
        title="Membership Inference Attacks From First Principles",
        authors="Carlini, Nicholas and Chien, Steve and Nasr, Milad and Song, Shuang and Terzis, Andreas and "
        "Tramer, Florian",
        year=2022,
        venue="IEEE Symposium on Security and Privacy",
        arxiv="2112.03570",
    ),
)

MODES = ("online", "offline")
VARIANCES = ("residual", "per-example", "canary-code", "carlini-code")
SIDES = ("one", "two")
TAILS = ("log-survival", "z-score")
_FLOOR = 1e-3
_ROUNDING = 1e-12
_FEW = 64
_LOG_2PI = float(np.log(2 * np.pi))


@settings
class LiRA:
    """Settings of the likelihood ratio attack."""

    mode: str = option(default="online", help="online uses IN and OUT models, offline OUT models only", choices=MODES)
    variance: str = option(default="residual", help="how spreads are estimated", choices=VARIANCES)
    sided: str | None = option(default=None, help="offline only; default: one", choices=SIDES)
    tail: str | None = option(default=None, help="t(u) of the one-sided form; default: log-survival", choices=TAILS)
    centre: str | None = option(
        default=None, help="of a normal, over models; default: median, or mean where joint", choices=("median", "mean")
    )
    joint: bool = option(default=False, help="one multivariate normal over the queries; needs many models")

    def __post_init__(self) -> None:
        if self.mode == "online" and self.sided is not None:
            raise SettingError(
                f"LiRA.sided is {self.sided!r} with mode 'online', where it does nothing: the likelihood ratio has no "
                "side. Leave it out, or use mode 'offline'."
            )
        one_sided = self.mode == "offline" and self.sided != "two"
        if self.tail is not None and not one_sided:
            raise SettingError(
                f"LiRA.tail is {self.tail!r}; it is for the one-sided offline form alone. Leave it out, or use mode "
                "'offline' with sided 'one'."
            )
        if self.joint and (one_sided or self.variance not in ("residual", "per-example")):
            raise SettingError(
                "LiRA.joint needs a log density (mode 'online', or 'offline' with sided 'two') and variance 'residual' "
                f"or 'per-example'; it was given mode {self.mode!r}, sided {self.sided!r}, variance {self.variance!r}."
            )

    def score(self, answers: Answers) -> Scored:
        """Scores of all records; see the file for the formulas."""
        return self.score_signals(answers.signal("confidence"))

    def score_signals(self, signals: Signals) -> Scored:
        """Scores from confidences that were computed before.

        Raises:
            DataError: no record has an OUT model; or, online, an IN model.
            SettingError: ``joint`` with too few models for the queries.
        """
        out = group(signals.reference, ~signals.in_mask, "OUT", self._centre())
        if self.mode == "offline":
            return self._scored(signals, [out])
        return self._scored(signals, [group(signals.reference, signals.in_mask, "IN", self._centre()), out])

    def _centre(self) -> str:
        return self.centre or ("mean" if self.joint else "median")

    def _scored(self, signals: Signals, sides: list[Group]) -> Scored:
        findings = [*signals.findings, *(finding for side in sides for finding in side.findings())]
        if self.joint:
            densities = [joint_log_density(signals.target, side, self.variance, findings) for side in sides]
        else:
            spreads = self._spreads(sides, findings)
            if self.mode == "offline" and self.sided != "two":
                u = (signals.target - sides[0].centre) / spreads[0]
                tails = u if self.tail == "z-score" else -log_ndtr(-u)
                return Scored(scores=tails.mean(axis=1), findings=findings, about=self._about(signals))
            densities = [
                _log_density(signals.target, side.centre, spread).mean(axis=1)
                for side, spread in zip(sides, spreads, strict=True)
            ]
        scores = densities[0] - densities[1] if len(densities) == 2 else -densities[0]
        return Scored(scores=scores, findings=findings, about=self._about(signals))

    def _spreads(self, sides: list[Group], findings: list[Finding]) -> list[np.ndarray]:
        """s of each side, [N, K] or a scalar, at least the floor."""
        if self.variance == "carlini-code":
            found = [np.asarray(sides[0].std(residual=False))] * len(sides)
        elif self.variance == "canary-code":
            found = [np.asarray(side.std(residual=False)) for side in sides]
        elif self.variance == "residual":
            found = [np.asarray(side.std(residual=True)) for side in sides]
        else:
            found = [_per_example(side) for side in sides]
            findings.extend(_few_models(sides))
        floor, constant = floor_of(sides, findings)
        low = sum(int((spread < floor).sum()) for spread in found)
        if low and not constant:
            findings.append(_floored(low, sum(spread.size for spread in found), floor))
        return [np.maximum(spread, floor) for spread in found]

    def _about(self, signals: Signals) -> str:
        queries = signals.target.shape[1]
        over = f"averaged over {queries} queries" if queries > 1 else "of one query"
        if self.mode == "online":
            form = "online, log likelihood ratio"
        elif self.sided == "two":
            form = "offline, two-sided, minus log density"
        else:
            form = f"offline, one-sided, {'z-score' if self.tail == 'z-score' else 'minus log survival'}"
        together = " as one multivariate normal" if self.joint else ""
        return (
            f"LiRA {form} of the logit-scaled confidence {over}{together}; centres are {self._centre()}s over "
            f"{len(signals.in_mask)} reference models, spreads by the convention {self.variance!r}."
        )


def lira_scores(
    reference_logits: Any,
    in_mask: Any,
    target_logits: Any,
    labels: Any,
    mode: str = "online",
    variance: str = "residual",
    sided: str = "one",
    *,
    tail: str = "log-survival",
    joint: bool = False,
) -> np.ndarray:
    """LiRA scores of N records; the formulas stand at the top of :mod:`assay.membership.attacks.lira`.

    Args:
        reference_logits: [M, N, K, C] answers of M reference models to K queries of each record, or [M, N, C]; arrays,
            memory maps, torch tensors, or a list of M of them. NaN and +inf are missing answers.
        in_mask: bool [M, N], true where a model was trained with the record.
        target_logits: [N, K, C] or [N, C].
        labels: [N], in 0..C-1.
        mode: ``"online"`` (IN and OUT models) or ``"offline"`` (OUT models only).
        variance: ``"residual"``, ``"per-example"``, ``"canary-code"`` or ``"carlini-code"``.
        sided: ``"one"`` or ``"two"``; offline only: the online ratio has no side.
        tail: ``"log-survival"`` or ``"z-score"``, of the one-sided offline form.
        joint: one multivariate normal over the queries.

    Returns:
        float64 [N]; larger means more likely a member.

    Raises:
        DataError: answers, mask and labels do not fit together, or no record has the models that are needed.
        SettingError: a setting is unknown, or does not go with another.

    Cost: no passes of a model; 8 bytes of memory for each of M N K answers, twice.

    Carlini et al. 2022 (arXiv 2112.03570).

    >>> phi = np.array([[2.0, 0.0], [3.0, 0.5], [0.0, 2.0], [0.5, 3.0]])  # [M, N]
    >>> mask = np.array([[True, False], [True, False], [False, True], [False, True]])
    >>> logits = np.stack([phi, np.zeros_like(phi)], axis=-1)
    >>> lira_scores(logits, mask, [[2.5, 0.0], [0.25, 0.0]], [0, 0]).round(2).tolist()
    [39.81, -10.82]
    """
    answers = answers_from(reference_logits, in_mask, target_logits, labels)
    offline = mode == "offline"
    if sided not in SIDES or tail not in TAILS:
        LiRA(mode="offline", sided=sided, tail=tail)
    chosen = LiRA(
        mode=mode,
        variance=variance,
        sided=sided if offline else None,
        tail=tail if offline and sided == "one" else None,
        joint=joint,
    )
    return chosen.score(answers).scores


def floor_of(sides: list[Group], findings: list[Finding]) -> tuple[float, bool]:
    """The least spread that is believed, 1e-3 of that of all values used, or 1 where all are the same; and whether."""
    counts = [int(side.count.sum()) for side in sides]
    means = [_mean_of(side) for side in sides]
    total = sum(counts)
    mean = sum(n * m for n, m in zip(counts, means, strict=True)) / total
    square = sum(
        n * (side.std(residual=False) ** 2 + (m - mean) ** 2) for side, n, m in zip(sides, counts, means, strict=True)
    )
    overall = float(np.sqrt(square / total))
    if overall > _ROUNDING * max(abs(mean), overall):
        return _FLOOR * overall, False
    findings.append(
        Finding(
            code="constant-references",
            severity="serious",
            message=f"All answers of the reference models give the same confidence, {mean:g}; scores are differences "
            "from it and no likelihoods.",
            remedy="See whether the reference models were trained, and answer to the right images.",
            value=mean,
        )
    )
    return 1.0, True


def _mean_of(side: Group) -> float:
    return float(sum(values[present].sum() for _, values, present in side.blocks()) / side.count.sum())


def _log_density(value: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    u = (value - centre) / spread
    return np.asarray(-0.5 * (_LOG_2PI + u * u) - np.log(spread))


def _per_example(side: Group) -> np.ndarray:
    """Spreads of each record and query; where fewer than two models answered, that of the residuals of all."""
    return np.where(side.count >= 2, side.record_std(), side.std(residual=True))


def _few_models(sides: list[Group]) -> list[Finding]:
    models = len(sides[0].chosen)
    if models >= _FEW:
        return []
    return [
        Finding(
            code="per-example-few-models",
            severity="info",
            message=f"Spreads of each record are estimated from {models} reference models; below about {_FEW} one "
            "spread for all records is usually the stronger attack.",
            remedy="Use variance 'residual', or train more reference models.",
            value=float(models),
        )
    ]


def _floored(low: int, size: int, floor: float) -> Finding:
    what = "The spread" if size <= 2 else f"{low:,} of {size:,} spreads"
    return Finding(
        code="spread-floor",
        severity="warning",
        message=f"{what} of the reference models' confidence lay below 1e-3 of the spread of all values, and "
        f"{'was' if size <= 2 else 'were'} raised to it ({floor:.3g}).",
        remedy="See whether reference models are copies of each other, or too few.",
        value=float(low),
    )
