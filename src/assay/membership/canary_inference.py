"""Canary inference: plain and optimised queries of the same records, side by side.

Canaries are images close to a record, optimised so that shadow models that saw the record and shadow models that did
not answer as differently as possible (Wen et al., Canary in a Coalmine, 2022). Some shadow models are held out: they
take no part in the optimisation and are no references, so that lines can be drawn on them as on strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.estimates import Estimate
from ..core.methods import Citation, MethodCard
from ..core.pictures import magnified_change
from ..core.probes import Finding, Measurement, Metric, PanelRow, Panels
from ..core.settings import build, option, settings
from ..tensors.random import bits, sample_seeds
from .asking import ANSWERS, pool_cost
from .attacks.lira import LiRA
from .canaries.settings import EPSILON, MODES, OBJECTIVES, CanarySettings
from .examined import sides_of, work_folder
from .exposure import Exposure, Questions, confidences, judge, losses
from .exposure_numbers import measurement
from .exposure_view import ranking
from .membership_inference import questions_of, truth_of
from .paired import auc_difference, tpr_difference
from .queries import ReadyQueries
from .signals import Answers, answers_from
from .store import AnswerStore, ask_pool
from .universe import Universe

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..core.shards import Shards
    from ..pools.pool import Pool
    from ..subjects.examination import Examination
    from ..subjects.target import Target
    from .canaries.optimise import Canaries

CARD = MethodCard(
    name="canary-inference",
    kind="probe",
    title="Membership inference with canaries",
    summary="What optimised queries of training records find out beyond plain ones, on the same records.",
    settings="CanaryInference",
    citation=Citation(
        key="wen2022canary",
        title="Canary in a Coalmine: Better Membership Inference with Ensembled Adversarial Queries",
        authors="Wen, Yuxin and Bansal, Arpit and Kazemi, Hamid and Borgnia, Eitan and Goldblum, Micah and "
        "Geiping, Jonas and Goldstein, Tom",
        year=2022,
        venue="International Conference on Learning Representations",
        arxiv="2210.10750",
    ),
)

CANARY, PLAIN = "canary", "lira"
HELD_OUT_SHARE = 8  # at most one of so many models is held out
COMMAND = "assay members canary --model MODEL --data TRAINING-DATA --nonmembers OTHER-DATA"


@settings
class CanaryInference:
    """Settings of the canary-inference probe."""

    members: str | None = option(
        default=None, help="the training data; default: as the record of the training names them, if they are built in"
    )
    members_split: str = option(default="train", help="which split of them the model was trained on")
    shadows: int = option(default=64, help="models the attacker trains", at_least=4, at_most=4096)
    design: str = option(default="half", help="which shadow model sees which record, such as half or pairs")
    targets: int = option(default=200, help="records that are attacked, half of them members", at_least=4)
    mode: str = option(default="online", help="offline uses no model that saw the record", choices=MODES)
    queries: int = option(default=10, help="queries a record", at_least=1)
    steps: int = option(default=30, help="steps of the optimisation", at_least=1)
    epsilon: float = option(default=EPSILON, help="largest change of a pixel (Linf), such as 1/255", at_least=0)
    objective: str = option(default="target-logit", help="what tells members from others", choices=OBJECTIVES)
    canary: tuple[str, ...] = option(default=(), help="further settings of the canaries, such as init=random")
    variance: str = option(default="residual", help="of LiRA, which judges the answers")
    fprs: tuple[float, ...] = option(default=(0.001, 0.01), help="shares of wrong accusations", above=0, below=1)
    priors: tuple[float, ...] = option(
        default=(0.5, 0.1, 0.01), help="shares of members among records that are looked at", above=0, below=1
    )
    mocks: int = option(default=8, help="shadow models held out to draw lines on, one of eight at most", at_least=0)

    def __post_init__(self) -> None:
        LiRA(mode=self.mode, variance=self.variance)
        self.canaries()

    def canaries(self) -> CanarySettings:
        """Every setting of the optimisation."""
        more = dict(word.partition("=")[::2] for word in self.canary)
        main = {name: getattr(self, name) for name in ("mode", "queries", "steps", "epsilon", "objective")}
        return build(CanarySettings, {**more, **main}, where="the settings of the canaries")

    def measure(self, examination: Examination) -> Measurement:
        """Train shadow models, optimise queries, attack with both kinds, and judge by the truth."""
        sides = sides_of(examination, self.members, self.members_split, shadows=self.shadows, command=COMMAND)
        if isinstance(sides, str):
            return Measurement(not_applicable=sides)
        with work_folder(examination) as root:
            pool = sides.pool(
                root,
                shadows=self.shadows,
                design=self.design,
                seed=examination.seed,
                progress=examination.progress,
            )
            found = audit_canaries(
                pool,
                examination.target,
                sides.universe,
                self,
                batch_size=examination.batch_size,
                seed=examination.seed,
                shards=examination.shards,
                findings=sides.findings,
                progress=examination.progress,
            )
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Round:
    """One kind of queries: answers of the target and, in its place, of the models that were held out.

    Args:
        answers: of the references and the target.
        held: of the references and one held-out model each.
        held_member: bool [H, T], what the held-out models were trained with.
    """

    answers: Answers
    held: Sequence[Answers]
    held_member: np.ndarray


def chosen_records(universe: Universe, targets: int, seed: int) -> np.ndarray:
    """Positions of the records that are attacked: half of them members, the first by a random word of each record.

    Args:
        universe: the records.
        targets: how many; fewer where a side has fewer than half of them.
        seed: root of the words.

    Returns:
        Ascending positions; asking for more only adds to fewer.
    """
    words = bits(sample_seeds(seed, universe.data.sample_ids.tolist(), "canary records"), 1)[:, 0].numpy()
    found = []
    for side in (universe.member, ~universe.member):
        places = np.flatnonzero(side)
        found.append(places[np.argsort(words[places], kind="stable")][: max(1, targets // 2)])
    return np.sort(np.concatenate(found))


def held_out(models: int, mocks: int) -> np.ndarray:
    """Numbers of the models that are held out, evenly spread: at most one of eight, and four references must remain."""
    count = min(mocks, models // HELD_OUT_SHARE, models - 4)
    return np.unique(np.linspace(0, models - 1, count).round().astype(int)) if count > 0 else np.empty(0, dtype=int)


def audit_canaries(
    pool: Pool,
    target: Target,
    universe: Universe,
    asked: CanaryInference,
    *,
    batch_size: int = 256,
    seed: int = 0,
    shards: Shards | None = None,
    findings: Sequence[Finding] = (),
    progress: Progress | None = None,
) -> Measurement:
    """Attack a target with plain and with optimised queries of the same records.

    Args:
        pool: finished shadow models of the records.
        target: the model.
        universe: the records; some are chosen of them.
        asked: settings.
        batch_size: images in one forward pass.
        seed: root of the random streams.
        shards: where finished canaries are kept.
        findings: further remarks.
        progress: where to show progress.
    """
    from .canaries.optimise import canary_queries

    rows = chosen_records(universe, asked.targets, seed)
    part = _part(universe, rows)
    aside = held_out(len(pool), asked.mocks)
    references = np.setdiff1d(np.arange(len(pool)), aside)
    canaries = canary_queries(
        pool.models(references.tolist()),
        pool.in_mask[np.ix_(references, rows)],
        part.data.images(),
        part.data.labels,
        seed=seed,
        sample_ids=part.data.sample_ids.tolist(),
        shards=shards,
        progress=progress,
        **_options(asked),
    )
    rounds = {
        name: _ask(pool, target, part, rows, (references, aside), images, batch_size, progress)
        for name, images in ((CANARY, canaries.images), (PLAIN, canaries.starts))
    }
    exposure = _exposure(rounds, part, asked, questions_of(asked, target, seed), len(references))
    cost = pool_cost(pool, 2 * asked.queries * len(rows))
    told = [*_gain(exposure, asked), *canaries.findings, *findings, *part.findings()]
    found = measurement(exposure, findings=told, cost=cost + canaries.cost)
    found.metrics[1:1] = _gains(exposure, seed)
    found.panels = [*found.panels, *_pictures(exposure, part, canaries)]
    found.samples = {
        "sample_id": part.data.sample_ids,
        **found.samples,
        "loss_start": canaries.first_loss.numpy().mean(1),
        "loss_canary": canaries.loss.numpy().mean(1),
    }
    return found


def _options(asked: CanaryInference) -> dict[str, Any]:
    from ..core.settings import as_dict

    return as_dict(asked.canaries())


def _part(universe: Universe, rows: np.ndarray) -> Universe:
    return Universe(
        data=universe.data.subset(rows),
        member=universe.member[rows],
        rows=universe.rows[rows],
        clusters=universe.clusters[rows],
        about=universe.about,
    )


def _ask(
    pool: Pool,
    target: Target,
    part: Universe,
    rows: np.ndarray,
    models: tuple[np.ndarray, np.ndarray],
    images: Any,
    batch_size: int,
    progress: Progress | None,
) -> Round:
    """Answers to ready queries of the chosen records."""
    store = AnswerStore(pool.folder / ANSWERS, ReadyQueries(images), classes=part.data.num_classes)
    references, aside = models
    reference = ask_pool(pool, store, models=references.tolist(), batch_size=batch_size, progress=progress)
    own = store.ask(f"target-{target.digest[:16]}", target, batch_size=batch_size)
    held = ask_pool(pool, store, models=aside.tolist(), batch_size=batch_size, progress=progress, title="Asking others")
    mask, labels = pool.in_mask[np.ix_(references, rows)], part.data.labels
    answers = answers_from(reference, mask, own, labels)
    return Round(
        answers=answers,
        held=[answers_from(reference, mask, one, labels) for one in held],
        held_member=pool.in_mask[np.ix_(aside, rows)],
    )


def _exposure(
    rounds: Mapping[str, Round], part: Universe, asked: CanaryInference, questions: Questions, models: int
) -> Exposure:
    attack, truth = LiRA(mode=asked.mode, variance=asked.variance), truth_of(part)
    judged = {}
    for name, one in rounds.items():
        played = np.array([attack.score(held).scores for held in one.held]).reshape(len(one.held), len(part))
        judged[name] = judge(name, attack.score(one.answers), truth, questions, played, one.held_member)
    plain = rounds[PLAIN].answers
    return Exposure(
        truth=truth,
        questions=questions,
        judged=judged,
        models=models,
        queries=asked.queries,
        confidence=confidences(plain),
        loss=losses(plain),
    )


def _gains(exposure: Exposure, seed: int) -> list[Metric]:
    found = [
        Metric.from_estimate(
            "auc_gain@canary",
            _auc_gain(exposure),
            estimand="AUC of optimised queries minus that of plain ones, on the same records",
            direction="none",
        )
    ]
    member = exposure.truth.member
    for fpr in exposure.questions.fprs:
        if exposure.main.curve.too_few(fpr):
            continue
        first, second = (exposure.judged[name].scores for name in (CANARY, PLAIN))
        found.append(
            Metric.from_estimate(
                f"tpr_gain_at_{fpr:g}_fpr@canary",
                tpr_difference(first, second, member, fpr, seed=seed),
                estimand=f"share of members above the line for a false positive rate of {fpr:g} by optimised queries, "
                "minus that by plain ones",
                direction="none",
            )
        )
    return found


def _auc_gain(exposure: Exposure) -> Estimate:
    canary, plain = exposure.judged[CANARY].scores, exposure.judged[PLAIN].scores
    return auc_difference(canary, plain, exposure.truth.member)


def _gain(exposure: Exposure, asked: CanaryInference) -> list[Finding]:
    gain = _auc_gain(exposure)
    first, second = (100 * exposure.judged[name].auc.value for name in (CANARY, PLAIN))
    verdict = (
        "more than chance explains"
        if gain.lo > 0
        else "less than plain queries, more than chance explains"
        if gain.hi < 0
        else "within what chance explains"
    )
    return [
        Finding(
            code="canaries-against-plain-queries",
            severity="info",
            message=f"Optimised queries pick the training record of a pair in {first:.1f} of 100 cases, as many plain "
            f"ones ({asked.queries} a record) in {second:.1f}: a gain of {100 * gain.value:+.1f} ({100 * gain.lo:+.1f} "
            f"to {100 * gain.hi:+.1f}), {verdict}. {len(exposure.truth.member):,} records, {asked.mode}.",
            value=gain.value,
        )
    ]


def _pictures(exposure: Exposure, part: Universe, canaries: Canaries) -> list[Panels]:
    """Before, after, and what was changed, of the members that are exposed most."""
    rows = []
    for place in ranking(exposure).tolist():
        before, after = canaries.starts[place, 0].numpy(), canaries.images[place, 0].numpy()
        shown, factor = magnified_change(before, after)
        words = [
            f"row {int(part.rows[place])}",
            f"class {exposure.truth.class_of(place)}",
            f"score {exposure.judged[CANARY].scores[place]:.3g}, plain {exposure.judged[PLAIN].scores[place]:.3g}",
            f"change × {factor}",
        ]
        rows.append(PanelRow(caption=" · ".join(words), pictures=[before, after, shown]))
    if not rows:
        return []
    return [
        Panels(
            title="Queries before and after",
            caption=f"The first query of each record, changed by at most {canaries.settings.epsilon:.3g} a pixel. In "
            "the change grey is unchanged, brighter is raised, darker lowered. These are training records.",
            columns=("record", "canary", "change"),
            rows=rows,
        )
    ]
