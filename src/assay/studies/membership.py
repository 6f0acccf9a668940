"""Membership studies: which records a model betrays as its training data, with shadow models, canaries, or answers.

Each is one run, resumable, and a report. The same call goes on where the last one stopped: finished shadow models,
answers and canaries are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import SettingError
from ..core.probes import Measurement
from ..core.settings import build
from ..membership import answers_attack, canary_inference, membership_inference
from ..membership.asking import BlackBox
from ..membership.examined import train_pool
from ..membership.exposure import Truth
from .membership_cost import Forecast, forecast_pool
from .membership_sides import Sides
from .single import single_run

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..core.shards import Shards
    from ..data.dataset import Dataset
    from ..membership.signals import Answers
    from ..subjects.target import Target
    from ..training.job import TrainSettings
    from ..training.recipe import Recipe
    from .auditing import Study

__all__ = [
    "BlackBox",
    "Forecast",
    "forecast_canaries",
    "forecast_members",
    "study_attack",
    "study_canaries",
    "study_members",
]

NOT_TESTED = (
    "Stronger attackers: more shadow models, more queries, or knowledge of the training beyond its recipe.",
    "Reconstruction: whether training records can be made from the model, and not only recognised.",
    "Records unlike those that were given, and groups that the data do not name.",
    "Other models that were trained on the same records, and the model together with its later versions.",
)
FPRS, PRIORS = (0.001, 0.01), (0.5, 0.1, 0.01)


def study_members(
    target: Target | BlackBox,
    members: Dataset,
    nonmembers: Dataset,
    *,
    recipe: Recipe | str | None = None,
    network: str | None = None,
    training: TrainSettings | None = None,
    shadows: int = 64,
    design: str = "half",
    method: str = "auto",
    attacks: Sequence[str] = (),
    queries: int = 1,
    augment: str | None = None,
    population: Dataset | None = None,
    fprs: Sequence[float] = FPRS,
    priors: Sequence[float] = PRIORS,
    mocks: int = 8,
    out: str | Path,
    pools: str | Path | None = None,
    executor: str = "local",
    workers: int | None = None,
    threads: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Train shadow models on halves of the records, attack the target, judge by the truth, and report.

    Args:
        target: the model, or its answers to the records, members first.
        members: records it was trained with.
        nonmembers: records of the same kind that it was not trained with.
        recipe, network, training: how shadow models are trained; None: as the record of the target says.
        shadows: how many.
        design: which sees which record, as in :func:`assay.pools.membership`.
        method: how they are trained, as in :meth:`assay.pools.Pool.plan`.
        attacks: such as ``"lira:mode=offline"``; the first one is the one that is spoken of.
        queries: queries a record, the image itself included.
        augment: how further ones differ; None: as the training changed its images.
        population: more records that the target never saw, for RMIA; None: a part of the non-members is set aside.
        fprs: shares of wrong accusations.
        priors: shares of members among the records that somebody looks at.
        mocks: shadow models that play the target, to draw lines on.
        out: folder of the study.
        pools: folder of pools, which studies may share; default: ``out/pools``.
        executor, workers, threads: how the pool is trained; the results do not depend on the first two.
        batch_size: images in one forward pass.
        seed: root of every random stream.
        claims: such as ``"auc@lira <= 0.6"``.
        progress: where to show progress.
        command: the command line to print in the report.

    Returns:
        The study with its one run.

    Raises:
        DataError: members and non-members overlap, or do not fit together or to the target.
        SettingError: an unknown attack; or nobody said how the target was trained.
        Incomplete: the work was interrupted; the same call goes on.
        RunError: ``out`` or ``pools`` cannot be written.

    Cost: trains ``shadows`` models on half of the records each, and asks each of them about all.
    """
    chosen = tuple(attacks) or membership_inference.DEFAULT_ATTACKS + (("rmia",) if population is not None else ())
    asked = build(
        membership_inference.MembershipInference,
        {
            "shadows": shadows,
            "design": design,
            "attacks": chosen,
            "queries": queries,
            "augment": augment,
            "fprs": tuple(fprs),
            "priors": tuple(priors),
            "mocks": mocks,
        },
    )
    sides = Sides.of(target, members, nonmembers, recipe, network, training)
    if any(name.partition(":")[0] == "rmia" for name in chosen):
        sides = sides.with_population(population, seed)
    sides.check()
    pool = sides.pool(out, pools, shadows=shadows, design=design, method=method, seed=seed)

    def measure(shards: Shards, shown: Progress) -> Measurement:
        train_pool(pool, executor=executor, workers=workers, threads=threads, progress=shown)
        return membership_inference.audit_pool(
            pool,
            sides.target,
            sides.universe,
            asked,
            augment=sides.training.augment,
            population=sides.population,
            batch_size=batch_size,
            seed=seed,
            findings=sides.findings,
            progress=shown,
        )

    return single_run(
        membership_inference.CARD,
        asked,
        measure,
        target=sides.target.describe(),
        data=sides.describe(pool),
        out=out,
        seed=seed,
        not_tested=NOT_TESTED,
        claims=claims,
        progress=progress,
        command=command,
        sample_ids=sides.universe.data.sample_ids,
    )


def study_canaries(
    target: Target,
    members: Dataset,
    nonmembers: Dataset,
    *,
    targets: int = 200,
    mode: str = "online",
    queries: int = 10,
    steps: int = 30,
    epsilon: float | str = "1/255",
    objective: str = "target-logit",
    canary: Mapping[str, Any] | None = None,
    variance: str = "residual",
    recipe: Recipe | str | None = None,
    network: str | None = None,
    training: TrainSettings | None = None,
    shadows: int = 64,
    design: str = "half",
    method: str = "auto",
    fprs: Sequence[float] = FPRS,
    priors: Sequence[float] = PRIORS,
    mocks: int = 8,
    out: str | Path,
    pools: str | Path | None = None,
    executor: str = "local",
    workers: int | None = None,
    threads: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Optimise queries of some records on shadow models, and attack with them and with as many plain ones.

    Args:
        target: the model; a black box cannot be asked about queries that do not exist yet.
        targets: records that are attacked, half of them members.
        mode: ``"online"``, or ``"offline"`` without the shadow models that saw the record.
        queries, steps, epsilon, objective: of the optimisation.
        canary: further settings of :class:`assay.membership.canaries.settings.CanarySettings`.
        variance: of LiRA, which judges the answers.
        mocks: shadow models that are held out to draw lines on; one of eight at most.
        others: as for :func:`study_members`.

    Raises:
        As :func:`study_members`.

    Cost: the pool; and ``steps`` forward and backward passes for each query and each shadow model that is drawn.
    """
    asked = _canaries_asked(
        canary,
        shadows=shadows,
        design=design,
        targets=targets,
        mode=mode,
        queries=queries,
        steps=steps,
        epsilon=epsilon,
        objective=objective,
        variance=variance,
        fprs=tuple(fprs),
        priors=tuple(priors),
        mocks=mocks,
    )
    if isinstance(target, BlackBox):
        raise SettingError("Canaries must be shown to the target; a file of answers cannot be asked. Give a model.")
    sides = Sides.of(target, members, nonmembers, recipe, network, training)
    sides.check()
    pool = sides.pool(out, pools, shadows=shadows, design=design, method=method, seed=seed)
    rows = canary_inference.chosen_records(sides.universe, targets, seed)

    def measure(shards: Shards, shown: Progress) -> Measurement:
        train_pool(pool, executor=executor, workers=workers, threads=threads, progress=shown)
        found = canary_inference.audit_canaries(
            pool,
            target,
            sides.universe,
            asked,
            batch_size=batch_size,
            seed=seed,
            shards=shards,
            findings=sides.findings,
            progress=shown,
        )
        found.samples.pop("sample_id")
        return found

    return single_run(
        canary_inference.CARD,
        asked,
        measure,
        target=target.describe(),
        data=sides.describe(pool),
        out=out,
        seed=seed,
        not_tested=NOT_TESTED,
        claims=claims,
        progress=progress,
        command=command,
        sample_ids=sides.universe.data.sample_ids[rows],
    )


def study_attack(
    answers: Answers | Mapping[str, np.ndarray],
    member: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    sample_ids: np.ndarray | None = None,
    name: str = "answers",
    attacks: Sequence[str] = (),
    fprs: Sequence[float] = FPRS,
    priors: Sequence[float] = PRIORS,
    mocks: int = 8,
    out: str | Path,
    seed: int = 0,
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Attack with answers that are there already, or judge finished scores; nothing is trained or asked.

    Args:
        answers: of reference models and a target; or finished scores [N] by name, larger means member.
        member: bool [N], the truth.
        labels, groups, class_names, sample_ids: of the records, where they are known.
        name: what the answers are called in the report.
        attacks: default: those for which there is what they need; none for scores.
        others: as for :func:`study_members`.

    Raises:
        DataError: lengths do not fit together, or there is no member or no non-member.
    """
    asked = build(
        answers_attack.MembershipAttack,
        {"attacks": tuple(attacks), "fprs": tuple(fprs), "priors": tuple(priors), "mocks": mocks},
    )
    count = len(np.asarray(member))
    ids = np.arange(count) if sample_ids is None else np.asarray(sample_ids)
    known = labels if isinstance(answers, Mapping) or labels is not None else answers.labels
    truth = Truth(
        member=np.asarray(member), sample_ids=ids, labels=known, class_names=tuple(class_names), groups=groups
    )
    evidence = answers_attack.Evidence(answers=answers, truth=truth, name=name, seed=seed)
    digest = evidence.digest()

    def measure(shards: Shards, shown: Progress) -> Measurement:
        evidence.progress = shown
        return asked.measure(evidence)

    return single_run(
        answers_attack.CARD,
        asked,
        measure,
        target={"name": name, "digest": digest, "task": "membership", "source": "a file of answers"},
        data={"name": name, "n": count, "members": int(truth.member.sum()), "digest": digest},
        out=out,
        seed=seed,
        not_tested=NOT_TESTED,
        claims=claims,
        progress=progress,
        command=command,
        sample_ids=ids,
    )


def forecast_members(
    target: Target | BlackBox,
    members: Dataset,
    nonmembers: Dataset,
    *,
    recipe: Recipe | str | None = None,
    network: str | None = None,
    training: TrainSettings | None = None,
    shadows: int = 64,
    design: str = "half",
    method: str = "auto",
    queries: int = 1,
    out: str | Path = "runs/members",
    pools: str | Path | None = None,
    workers: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    **_: Any,
) -> Forecast:
    """What :func:`study_members` of the same arguments would take; nothing is left on the disk.

    Cost: trains a few steps, and times a forward pass.
    """
    sides = Sides.of(target, members, nonmembers, recipe, network, training)
    sides.check()
    plan = {"shadows": shadows, "design": design, "method": method, "seed": seed}
    asked = (shadows + 1) * queries * len(sides.universe)
    return forecast_pool(
        sides.universe,
        sides.training,
        plan,
        sides.root(out, pools),
        asked=asked,
        workers=workers,
        batch_size=batch_size,
    )


def forecast_canaries(
    target: Target,
    members: Dataset,
    nonmembers: Dataset,
    *,
    targets: int = 200,
    queries: int = 10,
    steps: int = 30,
    canary: Mapping[str, Any] | None = None,
    recipe: Recipe | str | None = None,
    network: str | None = None,
    training: TrainSettings | None = None,
    shadows: int = 64,
    design: str = "half",
    method: str = "auto",
    out: str | Path = "runs/canary",
    pools: str | Path | None = None,
    workers: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    **_: Any,
) -> Forecast:
    """What :func:`study_canaries` of the same arguments would take; nothing is left on the disk."""
    sides = Sides.of(target, members, nonmembers, recipe, network, training)
    sides.check()
    rows = len(canary_inference.chosen_records(sides.universe, targets, seed))
    drawn = int((canary or {}).get("shadows", 2))
    plan = {"shadows": shadows, "design": design, "method": method, "seed": seed}
    return forecast_pool(
        sides.universe,
        sides.training,
        plan,
        sides.root(out, pools),
        asked=2 * (shadows + 1) * queries * rows,
        optimised=(steps + 1) * queries * drawn * rows,
        workers=workers,
        batch_size=batch_size,
    )


def _canaries_asked(canary: Mapping[str, Any] | None, **given: Any) -> canary_inference.CanaryInference:
    words = []
    for name, value in (canary or {}).items():
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words.append(f"{name}={text}")
    return build(canary_inference.CanaryInference, {**given, "canary": tuple(words)})
