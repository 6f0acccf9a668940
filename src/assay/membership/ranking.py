"""Records ranked by attacks where nobody knows who the members are: scores, and how many lie above fixed thresholds.

Each threshold is fixed on reference models that play the target, whose members are known. It says how many records
are flagged; how many of these are members, no computation can say without the truth.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError
from ..core.probes import Finding
from .attacks.registry import parse
from .thresholds import threshold_of

if TYPE_CHECKING:
    from .signals import Answers

FEWEST_REFERENCES = 4


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores of records whose truth is not known.

    Args:
        scores: float64 [N] by attack, larger means more likely a member.
        flagged: (attack, false positive rate of the mock targets, threshold, records above it).
        findings: remarks of the attacks.
        about: what each attack is, in a sentence.
    """

    scores: Mapping[str, np.ndarray]
    flagged: tuple[tuple[str, float, float, int], ...] = ()
    findings: tuple[Finding, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    def table(self, columns: Mapping[str, np.ndarray | None]) -> str:
        """A row for each record as CSV: what is known of it, its scores, and its rank by the first of them.

        Args:
            columns: a whole number for each record by name, such as labels; None is left out.
        """
        known = {name: list(values) for name, values in columns.items() if values is not None}
        first = next(iter(self.scores.values()))
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(-first, kind="stable")] = np.arange(1, len(first) + 1)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["record", *known, *self.scores, "rank"])
        for place in range(len(first)):
            about = [int(values[place]) for values in known.values()]
            writer.writerow(
                [place, *about, *(repr(float(one[place])) for one in self.scores.values()), int(rank[place])]
            )
        return text.getvalue()


def ranked(answers: Answers, attacks: Sequence[str], fprs: Sequence[float], *, mocks: int = 8) -> Ranking:
    """Score records by attacks, and count those above thresholds fixed on mock targets.

    Args:
        answers: of reference models and the target.
        attacks: such as ``"lira"`` or ``"rmia:gamma=2"``.
        fprs: false positive rates among the mock targets' non-members.
        mocks: reference models that play the target in turn, the first so many.

    Raises:
        InputError: an attack is unknown, or the answers do not suffice for it.

    Cost: each attack runs ``1 + mocks`` times.
    """
    scores: dict[str, np.ndarray] = {}
    findings: dict[str, Finding] = {}
    about: dict[str, str] = {}
    flagged: list[tuple[str, float, float, int]] = []
    for attack in attacks:
        _, settings = parse(attack)
        done = settings.score(answers)
        scores[attack], about[attack] = done.scores, done.about
        findings |= {finding.code: finding for finding in done.findings}
        if answers.models >= FEWEST_REFERENCES:
            played = np.stack([settings.score(answers.as_target(m)).scores for m in range(min(mocks, answers.models))])
            for fpr in fprs:
                limit = threshold_of(played, answers.in_mask[: len(played)], fpr)
                flagged.append((attack, fpr, limit, int((done.scores > limit).sum())))
    if not scores:
        raise InputError("No attack was named; at least one is needed, such as 'lira'.")
    return Ranking(scores=scores, flagged=tuple(flagged), findings=tuple(findings.values()), about=about)
