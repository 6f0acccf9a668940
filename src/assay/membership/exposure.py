"""Exposure: what an attack on membership finds out about the training records of a model, with intervals.

The truth is known here, so that every accusation can be judged. A record is named where its score lies above a line;
lines are drawn on reference models that play the target (one after another, the others being its references), and then
applied to the real target once, so that no figure profits from having been chosen on the records that measure it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError, SettingError
from ..core.estimates import Estimate
from ..core.probes import Finding
from ..core.progress import Progress
from ..core.roc import Roc
from ..core.seeds import seed as named_seed
from . import evidence
from .attacks.registry import parse
from .thresholds import Calibrated, calibrated

if TYPE_CHECKING:
    from .evidence import Bound, NullArea
    from .signals import Answers, Scored

FEWEST_OF_A_STRATUM = 10
FEWEST_REFERENCES = 4
LINES_OF_EPSILON = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """Who is a member, and what is known of the records.

    Args:
        member: bool [N].
        sample_ids: int64 [N], a name for each record.
        labels: int64 [N], or None.
        class_names: one a class; their numbers where there are none.
        groups: text [N], or None.
        clusters: [N] the same value for copies of one record, or None.
        rows: int64 [N], row of each record in the source it came from, or None.
        images: gives the pictures of some positions, [n, C, H, W], or None.
    """

    member: np.ndarray
    sample_ids: np.ndarray
    labels: np.ndarray | None = None
    class_names: Sequence[str] = ()
    groups: np.ndarray | None = None
    clusters: np.ndarray | None = None
    rows: np.ndarray | None = None
    images: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self) -> None:
        count = len(self.member)
        if np.asarray(self.member).dtype != bool or not self.member.any() or self.member.all():
            raise DataError("member must be booleans [N] with at least one member and one non-member.")
        for name in ("sample_ids", "labels", "groups", "clusters", "rows"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise DataError(f"There are {count} records and {len(values)} {name}; one a record is needed.")

    def class_of(self, position: int) -> str:
        """The class of a record in words."""
        if self.labels is None:
            return ""
        label = int(self.labels[position])
        return str(self.class_names[label]) if label < len(self.class_names) else str(label)

    @cached_property
    def strata(self) -> list[tuple[str, str, np.ndarray]]:
        """Kind, name and rows [N] bool of each class and group that has enough records on both sides."""
        found = []
        for kind, values in (("class", self.labels), ("group", self.groups)):
            for value in () if values is None else np.unique(values):
                rows = values == value
                if min((rows & self.member).sum(), (rows & ~self.member).sum()) >= FEWEST_OF_A_STRATUM:
                    name = self.class_of(int(np.flatnonzero(rows)[0])) if kind == "class" else str(value)
                    found.append((kind, name, rows))
        return found


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of every attack.

    Args:
        fprs: false positive rates at which rates are reported.
        priors: shares of members for which the worth of an accusation is told.
        mocks: reference models that play the target, to draw lines on.
        delta: δ of the lower bound on ε.
        stated_epsilon: upper bound on ε that the training stated at ``delta``; None where it stated none.
        seed: of shuffles.
        remedy: the command of a larger audit, for findings.
    """

    fprs: tuple[float, ...] = (0.001, 0.01)
    priors: tuple[float, ...] = (0.5, 0.1, 0.01)
    mocks: int = 8
    delta: float = 0.0
    stated_epsilon: float | None = None
    seed: int = 0
    remedy: str = ""

    def __post_init__(self) -> None:
        for name in ("fprs", "priors"):
            values = tuple(sorted(set(getattr(self, name))))
            if not values or not all(0 < value < 1 for value in values):
                raise SettingError(f"{name} are {list(values)}; rates between 0 and 1 are needed, such as 0.01.")
            object.__setattr__(self, name, values)

    @property
    def main(self) -> float:
        """The false positive rate that the plain words speak of: the largest one."""
        return self.fprs[-1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """One attack, judged by the truth.

    Args:
        label: of the attack in names of metrics, such as ``"lira"``.
        about: one sentence on the form of the attack.
        scores: [N].
        curve: of members against non-members.
        auc: with its interval.
        rates: TPR by FPR.
        lines: by FPR, drawn on the reference models; empty where there are too few of them.
        bound: lower bound on ε.
        null: what shuffled truths give.
        findings: remarks of the attack itself.
    """

    label: str
    about: str
    scores: np.ndarray
    curve: Roc
    auc: Estimate
    rates: dict[float, Estimate]
    lines: dict[float, Calibrated]
    bound: Bound
    null: NullArea
    findings: list[Finding] = field(default_factory=list)


def label_of(attack: str) -> str:
    """An attack as names of metrics and files have it: its name and the values that were set.

    >>> label_of("lira:mode=offline;sided=two"), label_of("loss")
    ('lira-offline-two', 'loss')
    """
    name, _, rest = attack.partition(":")
    values = [part.partition("=")[2].strip() or part.strip() for part in rest.replace(",", ";").split(";") if part]
    return "-".join([name.strip(), *values])


def labels_of(attacks: Sequence[str]) -> dict[str, str]:
    """Attacks by their label; SettingError where two are the same or one is unknown."""
    found: dict[str, str] = {}
    for attack in attacks:
        parse(attack)
        label = label_of(attack)
        if label in found:
            raise SettingError(f"The attack {attack!r} is asked for twice; name each once.")
        found[label] = attack
    if not found:
        raise SettingError("No attack is named; give at least one, such as 'lira'.")
    return found


def run_attacks(
    answers: Answers, attacks: Sequence[str], *, mocks: int = 8, progress: Progress | None = None
) -> tuple[dict[str, Scored], dict[str, np.ndarray], np.ndarray]:
    """Scores of the target, and of reference models in its place.

    Args:
        answers: of target and references.
        attacks: as the command line writes them, ``"lira:mode=offline"``.
        mocks: how many references play the target; none where there are fewer than four.
        progress: where to show progress, a unit a scoring.

    Returns:
        Scored by label; scores [T, N] of the mock targets by label; their members, bool [T, N].

    Cost: (T + 1) times the attack, on signals that are computed once.
    """
    wanted = labels_of(attacks)
    chosen = _mock_targets(answers.models, mocks)
    found: dict[str, Scored] = {}
    played: dict[str, np.ndarray] = {}
    shown = progress or Progress(enabled=False)
    with shown.task("Attacking", total=len(wanted) * (1 + len(chosen))) as task:
        for label, attack in wanted.items():
            _, settings = parse(attack)
            found[label] = settings.score(answers)
            task.advance()
            rows = []
            for model in chosen:
                rows.append(settings.score(answers.as_target(model)).scores)
                task.advance()
            played[label] = np.array(rows).reshape(len(chosen), len(answers))
    return found, played, answers.in_mask[chosen]


def _mock_targets(models: int, wanted: int) -> list[int]:
    if models < FEWEST_REFERENCES or wanted < 1:
        return []
    return np.unique(np.linspace(0, models - 1, min(models, wanted)).round().astype(int)).tolist()


def judge(
    label: str,
    scored: Scored,
    truth: Truth,
    questions: Questions,
    played: np.ndarray | None = None,
    played_member: np.ndarray | None = None,
) -> Judged:
    """Hold the scores of an attack against the truth.

    Args:
        label: of the attack.
        scored: what it returned.
        truth: who is a member.
        questions: what is asked.
        played: [T, N] scores of mock targets, or None.
        played_member: [T, N] their members.
    """
    scores, member = scored.scores, truth.member
    curve = evidence.roc(scores, member)
    clusters = truth.clusters if truth.clusters is not None and len(np.unique(truth.clusters)) < len(member) else None
    lines: dict[float, Calibrated] = {}
    threshold: float | None = None
    if played is not None and played_member is not None and len(played):
        lines = {fpr: calibrated(played, played_member, scores, member, fpr) for fpr in questions.fprs}
        candidates = [calibrated(played, played_member, scores, member, fpr).threshold for fpr in LINES_OF_EPSILON]
        threshold = evidence.epsilon_lower_bound(
            played.ravel(), played_member.ravel(), candidates, questions.delta
        ).threshold
    return Judged(
        label=label,
        about=scored.about,
        scores=scores,
        curve=curve,
        auc=evidence.auc_interval(scores, member, clusters),
        rates={
            fpr: evidence.tpr_interval(scores, member, fpr, clusters, seed=questions.seed) for fpr in questions.fprs
        },
        lines=lines,
        bound=evidence.epsilon_lower_bound(scores, member, threshold, questions.delta, seed=questions.seed),
        null=evidence.null_auc(scores, member, seed=named_seed(questions.seed, "shuffled membership")),
        findings=list(scored.findings),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Exposure:
    """Everything that was found out, from which metrics, findings, figures and tables are made.

    Args:
        truth: who is a member.
        questions: what was asked.
        judged: by label; the first attack is the one that was chosen beforehand to speak of.
        models: reference models.
        queries: of each record.
        confidence: confidence of the target, and its means over the references that saw a record and that did not,
            each [N], by ``"target"``, ``"in"`` and ``"out"``; empty where they are not known.
        loss: cross-entropy of the target on the record itself, [N], or None.
    """

    truth: Truth
    questions: Questions
    judged: dict[str, Judged]
    models: int = 0
    queries: int = 0
    confidence: Mapping[str, np.ndarray] = field(default_factory=dict)
    loss: np.ndarray | None = None

    @property
    def main(self) -> Judged:
        """The attack that was chosen beforehand."""
        return next(iter(self.judged.values()))

    @cached_property
    def by_stratum(self) -> list[tuple[str, str, Estimate]]:
        """Kind, name and AUC of the main attack in each class and group with enough records."""
        found = []
        for kind, name, rows in self.truth.strata:
            known = rows & ~np.isnan(self.main.scores)
            if min((known & self.truth.member).sum(), (known & ~self.truth.member).sum()) < 2:
                continue
            clusters = None if self.truth.clusters is None else self.truth.clusters[rows]
            if clusters is not None and len(np.unique(clusters)) == len(clusters):
                clusters = None
            estimate = evidence.auc_interval(self.main.scores[rows], self.truth.member[rows], clusters)
            found.append((kind, name, estimate))
        return found

    @cached_property
    def blind(self) -> Estimate | None:
        """The AUC of the mean confidence of models that never saw the record: 0.5 where both sides are alike."""
        values = self.confidence.get("out")
        if values is None or not all(
            (~np.isnan(values) & side).any() for side in (self.truth.member, ~self.truth.member)
        ):
            return None
        return evidence.auc_interval(values, self.truth.member, level=0.99)

    def named(self, label: str, fpr: float) -> np.ndarray:
        """Which records lie above a line, [N]."""
        judged = self.judged[label]
        line = judged.lines[fpr].threshold if fpr in judged.lines else judged.curve.threshold(fpr)
        with np.errstate(invalid="ignore"):
            return np.asarray(judged.scores > line)


def expose(
    answers: Answers,
    truth: Truth,
    attacks: Sequence[str],
    questions: Questions,
    *,
    progress: Progress | None = None,
) -> Exposure:
    """Attack the target, draw lines on its references, and judge.

    Args:
        answers: of the target and its references to every record.
        truth: who is a member.
        attacks: the first is the one that is spoken of.
        questions: what is asked.
        progress: where to show progress.

    Cost: see :func:`run_attacks`.
    """
    if len(answers) != len(truth.member):
        raise DataError(f"There are answers to {len(answers)} records and the truth of {len(truth.member)}.")
    scored, played, played_member = run_attacks(answers, attacks, mocks=questions.mocks, progress=progress)
    return Exposure(
        truth=truth,
        questions=questions,
        judged={
            label: judge(label, one, truth, questions, played[label], played_member) for label, one in scored.items()
        },
        models=answers.models,
        queries=answers.queries,
        confidence=confidences(answers),
        loss=losses(answers),
    )


def expose_scores(scored: Mapping[str, Scored], truth: Truth, questions: Questions) -> Exposure:
    """Judge scores that were made elsewhere; lines cannot be drawn on references then."""
    return Exposure(
        truth=truth,
        questions=questions,
        judged={label: judge(label, one, truth, questions) for label, one in scored.items()},
    )


def losses(answers: Answers) -> np.ndarray | None:
    """Cross-entropy of the target on the first query of each record, [N]; None where only classes are known."""
    if answers.kind == "labels":
        return None
    confidence = answers.signal("confidence").target[:, 0]
    return np.asarray(np.logaddexp(0.0, -confidence))


def confidences(answers: Answers) -> dict[str, np.ndarray]:
    """Confidence of the target, and its means over references that saw a record and that did not, each [N]."""
    if answers.kind == "labels":
        return {}
    signal = answers.signal("confidence")
    found = {"target": _mean(signal.target[None], np.ones((1, len(answers)), dtype=bool))}
    if answers.models:
        found |= {"in": _mean(signal.reference, signal.in_mask), "out": _mean(signal.reference, ~signal.in_mask)}
    return found


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the chosen models and all queries: [M, N, K] -> [N]; NaN where there is none."""
    known = chosen[:, :, None] & np.isfinite(values)
    count = known.sum((0, 2))
    total = np.where(known, values, 0.0).sum((0, 2))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
