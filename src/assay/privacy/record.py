"""What a private training leaves behind: ``privacy.json``, its metrics, and the statement in words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ..core.errors import Unsupported
from ..core.files import to_json, write_atomic
from ..core.probes import Finding, Metric
from ..training.recipe import Report
from .ledger import Ledger
from .plan import Plan
from .statements import delta_remark, statement

if TYPE_CHECKING:
    from .companion import PrivateCompanion

PRIVACY = "privacy.json"
SCHEMA = 1
ACCOUNTANTS = ("rdp", "prv", "gdp")
CLIP_SETTINGS = ("clip", "clip_norm", "upper_norm", "tau", "z_rate", "count_noise", "centred")


def make_report(private: PrivateCompanion) -> Report:
    """Write ``privacy.json``, and say what the record adds.

    Cost: epsilon by three accountants; PRV takes seconds where steps are many.
    """
    plan, recipe = private.plan, private.recipe
    ledger = private.spent()
    spent, findings = epsilons(plan, ledger)
    findings += remarks(plan)
    content = {
        "schema": SCHEMA,
        "recipe": private.name,
        "clip": {**{name: getattr(recipe, name) for name in CLIP_SETTINGS}, "state": private.mechanism.rule.state()},
        "noise_multiplier": plan.noise_multiplier,
        "effective_noise_multiplier": plan.effective,
        "sample_rate": plan.sample_rate,
        "steps": private.charged,
        "delta": plan.delta,
        "epsilon": spent,
        "ledger": ledger.as_dict(),
        "statement": statement(
            ledger,
            plan.delta,
            population=plan.population,
            secure=recipe.secure,
            count_noise=private.mechanism.rule.count_noise,
            spent=spent,
        ),
        "secure": recipe.secure,
        "sampling": plan.sampling,
        "backend": private.engine.chosen,
        "population": plan.population,
        "expected_batch_size": private.mechanism.expected_batch_size,
        "groups": "label" if private.by_label else "group",
        "snapshots": private.snapshots,
        **recipe.privacy_extras(),
    }
    assert private.out is not None
    write_atomic(private.out / PRIVACY, to_json(content))
    files = [PRIVACY, *(item["file"] for item in private.snapshots)]
    return Report(metrics=metrics(plan, spent), findings=findings, files=files)


def epsilons(plan: Plan, ledger: Ledger) -> tuple[dict[str, Any], list[Finding]]:
    """ε of a ledger by each accountant, or why none is valid; findings where an accountant gave up."""
    if plan.not_valid:
        return {"not_valid": plan.not_valid}, []
    spent: dict[str, Any] = {}
    findings = []
    for accountant in ACCOUNTANTS:
        try:
            spent[accountant] = ledger.epsilon(plan.delta, accountant)
        except Unsupported as error:
            spent[accountant] = None
            findings.append(
                Finding(
                    code="accountant-failed",
                    severity="info",
                    message=f"The accountant {accountant} gave no epsilon: {error}",
                    remedy="The other accountants' values hold by themselves.",
                )
            )
    return spent, findings


def remarks(plan: Plan) -> list[Finding]:
    """What keeps the stated privacy from meaning what a reader may think."""
    found = []
    if plan.not_valid:
        found.append(
            Finding(
                code="not-private",
                severity="serious",
                message=f"No epsilon can be stated, because {plan.not_valid}.",
                remedy="Train with sampling 'poisson' and a noise_multiplier above 0, or a target epsilon.",
            )
        )
    remark = delta_remark(plan.delta, plan.population)
    if remark:
        found.append(Finding(code="large-delta", severity="warning", message=remark, value=plan.delta))
    return found


def metrics(plan: Plan, spent: dict[str, Any]) -> list[Metric]:
    """``epsilon@rdp`` and ``epsilon@prv``; they are upper bounds, so there is no interval."""
    return [
        Metric(
            name=f"epsilon@{accountant}",
            estimand=f"upper bound of epsilon at delta {plan.delta:g}, for adding or removing one training sample, "
            f"by the {accountant.upper()} accountant",
            value=spent[accountant],
            lo=None,
            hi=None,
            interval="",
            n=plan.population,
            unit="epsilon",
            direction="lower",
        )
        for accountant in ("rdp", "prv")
        if spent.get(accountant) is not None
    ]


def forecast_sentences(plan: Plan) -> list[str]:
    """What a training of this plan will come to."""
    counts = f" ({plan.effective:.4g} together with the counts)" if plan.effective != plan.noise_multiplier else ""
    noise = (
        f"Noise multiplier {plan.noise_multiplier:.4g}{counts}, sampling rate {plan.sample_rate:.4g}, "
        f"{plan.steps:,} steps."
    )
    if plan.not_valid:
        return [noise, f"No epsilon can be stated, because {plan.not_valid}."]
    stated = f"{plan.epsilon('rdp'):.4g} by RDP"
    with contextlib.suppress(Unsupported):
        stated += f" and {plan.epsilon('prv'):.4g} by PRV"
    return [noise, f"At its end epsilon is {stated}, at delta {plan.delta:g}."]
