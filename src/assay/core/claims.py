"""Claims: predicates on the metrics of runs. They pass, fail, or were not run, which is never a pass."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .budgets import same_name
from .errors import EXIT_CLAIM_FAILED, EXIT_INCOMPLETE, EXIT_OK, SettingError, did_you_mean
from .files import plain
from .probes import Metric
from .settings import number

if TYPE_CHECKING:
    from .runs import Run

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_EXAMPLE = 'write it like "robust_accuracy@linf:8/255 >= 0.4" or "clean_accuracy{class=3} >= 0.9"'
_FORM = re.compile(
    r"\s*(?P<name>[^{}<>=]+?)\s*(\{(?P<stratum>.*)\})?\s*(?P<op>>=|<=|>|<)\s*(?P<threshold>[^<>={}]+)", re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A predicate on one metric.

    Args:
        text: as it is shown, such as ``"clean_accuracy{class=3} >= 0.9"``.
        metric: name of the metric.
        stratum: ``""`` for all samples.
        op: ``">="``, ``">"``, ``"<="`` or ``"<"``.
        threshold: what the metric is compared with.
        confident: compare the unfavourable end of the interval, not the point estimate.
    """

    text: str
    metric: str
    stratum: str
    op: str
    threshold: float
    confident: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a claim.

    Args:
        claim: the claim.
        outcome: ``"passed"``, ``"failed"`` or ``"not_run"``.
        metric: the metric it was held against, or ``None``.
        run_id: the run that measured it, or ``""``.
        reason: a sentence.
    """

    claim: Claim
    outcome: str
    metric: Metric | None
    run_id: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return found

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """The verdict that ``as_dict`` wrote."""
        metric = Metric(**record["metric"]) if record["metric"] else None
        return cls(**{**record, "claim": Claim(**record["claim"]), "metric": metric})


def parse_claim(given: str | Mapping[str, Any] | Claim) -> Claim:
    """Read a claim; spaces do not matter.

    Args:
        given: text, or a mapping ``{"claim": text, "confident": true}``.

    Raises:
        SettingError: it is not a claim; the message shows how one is written.

    >>> claim = parse_claim("robust_accuracy@linf: 8/255>=0.40")
    >>> claim.metric, claim.op, claim.threshold
    ('robust_accuracy@linf:8/255', '>=', 0.4)
    """
    if isinstance(given, Claim):
        return given
    if isinstance(given, Mapping):
        return _from_mapping(given)
    if not isinstance(given, str):
        raise SettingError(f"A claim is {given!r}; {_EXAMPLE}.")
    form = _FORM.fullmatch(given.replace("≥", ">=").replace("≤", "<="))
    if form is None:
        raise SettingError(f"The claim {given!r} cannot be read; {_EXAMPLE}. Comparisons: >=, >, <=, <.")
    threshold = number(form["threshold"].strip(), name=f"The threshold of the claim {given!r}")
    if math.isinf(threshold):
        raise SettingError(f"The threshold of the claim {given!r} is infinite; a finite number is needed.")
    name = "".join(form["name"].split())
    stratum = re.sub(r"\s*=\s*", "=", (form["stratum"] or "").strip(), count=1)
    return Claim(
        text=" ".join(given.split()),
        metric=name,
        stratum=stratum,
        op=form["op"],
        threshold=threshold,
    )


def check(claims: Iterable[str | Mapping[str, Any] | Claim], runs: Sequence[Run]) -> list[Verdict]:
    """Hold every claim against the runs.

    A claim that several finished runs bear on must hold in all of them: the
    verdict shows one that fails, if there is one. Metrics of runs that are not
    finished are not used.
    """
    return [_judge(parse_claim(claim), runs) for claim in claims]


def exit_code(verdicts: Iterable[Verdict], incomplete: bool = False) -> int:
    """1 if a claim failed, else 3 if one was not run (or the study is incomplete), else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if "failed" in outcomes:
        return EXIT_CLAIM_FAILED
    return EXIT_INCOMPLETE if incomplete or "not_run" in outcomes else EXIT_OK


def _from_mapping(given: Mapping[str, Any]) -> Claim:
    known = ("claim", "confident")
    for key in given:
        if key not in known:
            raise SettingError(f"A claim has no field {key!r}.{did_you_mean(str(key), known)}")
    confident = given.get("confident", False)
    if not isinstance(given.get("claim"), str) or not isinstance(confident, bool):
        raise SettingError(f"A claim is {dict(given)!r}; {_EXAMPLE}, or {{claim: ..., confident: true}}.")
    return dataclasses.replace(parse_claim(given["claim"]), confident=confident)


def _judge(claim: Claim, runs: Sequence[Run]) -> Verdict:
    verdicts = [
        _compare(claim, metric, run.id)
        for run in runs
        if run.status == "ok"
        for metric in run.metrics
        if same_name(claim.metric, metric.name) and claim.stratum == metric.stratum
    ]
    if not verdicts:
        return Verdict(claim=claim, outcome="not_run", metric=None, run_id="", reason=_why_not_run(claim, runs))
    return next((verdict for verdict in verdicts if verdict.outcome == "failed"), verdicts[0])


def _compare(claim: Claim, metric: Metric, run_id: str) -> Verdict:
    value: float | None = metric.value
    subject, missing = metric.label, "could not be measured: its value is not a number"
    if claim.confident:
        upward = claim.op.startswith(">")
        value = metric.lo if upward else metric.hi
        subject = f"The {'lower' if upward else 'upper'} end of the interval of {metric.label}"
        missing = "has no interval, so nothing can be said with confidence"
    if value is None or math.isnan(value):
        outcome, reason = "failed", f"{metric.label} {missing}, n={metric.n}."
    else:
        holds = _COMPARE[claim.op](value, claim.threshold)
        outcome = "passed" if holds else "failed"
        relation = f"{'meets' if holds else 'does not meet'} {claim.op} {claim.threshold:.6g}"
        reason = f"{subject} is {value:.6g}, which {relation}, n={metric.n}."
    return Verdict(claim=claim, outcome=outcome, metric=metric, run_id=run_id, reason=reason)


def _why_not_run(claim: Claim, runs: Sequence[Run]) -> str:
    finished = [metric for run in runs if run.status == "ok" for metric in run.metrics]
    strata = [metric.stratum for metric in finished if same_name(claim.metric, metric.name)]
    if strata:
        hint = did_you_mean(claim.stratum, {stratum or "all samples" for stratum in strata})
        return f"{claim.metric} was not measured for the stratum {claim.stratum or 'all samples'!r}.{hint}"
    reason = f"No finished run measured {claim.metric!r}.{did_you_mean(claim.metric, {m.name for m in finished})}"
    without = [f"{run.id} ({run.method.get('name', 'unknown')}: {run.status})" for run in runs if run.status != "ok"]
    return f"{reason} Runs without a result: {', '.join(without)}." if without else reason
