"""Membership inference: what somebody finds out about who was in the training data of a model, by asking it.

The attacker trains models of its own by the same recipe on random halves of the records whose truth is to be found,
and compares how the examined model answers to a record with how models answer that saw it, and with how models answer
that did not (Carlini et al., Membership Inference Attacks From First Principles, 2022). Here the truth is known, and
the attack is judged by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.methods import Citation, MethodCard
from ..core.probes import Finding, Measurement
from ..core.seeds import seed as named_seed
from ..core.settings import option, settings
from .asking import BlackBox, ask
from .examined import LARGER, pinned, sides_of, work_folder
from .exposure import Questions, Truth, expose, labels_of
from .exposure_numbers import measurement
from .queries import PlainQueries, check_queries
from .trained_as import stated_epsilon

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..data.dataset import Dataset
    from ..pools.pool import Pool
    from ..subjects.examination import Examination
    from ..subjects.target import Target
    from .universe import Universe

CARD = MethodCard(
    name="membership-inference",
    kind="probe",
    title="Membership inference",
    summary="Which training records an attacker can name who trains shadow models, and how surely.",
    settings="MembershipInference",
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

DEFAULT_ATTACKS = ("lira", "calibrated-loss", "loss")


@settings
class MembershipInference:
    """Settings of the membership-inference probe."""

    members: str | None = option(
        default=None, help="the training data; default: as the record of the training names them, if they are built in"
    )
    members_split: str = option(default="train", help="which split of them the model was trained on")
    members_digest: str | None = option(
        default=None, help="checksum of the training data; filled in where they are named, and then checked"
    )
    shadows: int = option(default=8, help="models the attacker trains", at_least=2, at_most=4096)
    design: str = option(default="half", help="which shadow model sees which record, such as half or pairs")
    attacks: tuple[str, ...] = option(
        default=DEFAULT_ATTACKS, help="attacks; the first one, chosen beforehand, is the one that is spoken of"
    )
    queries: int = option(default=1, help="queries a record, the image itself included", at_least=1, at_most=1000)
    augment: str | None = option(
        default=None, help="how further queries differ; default: as the training changed its images"
    )
    fprs: tuple[float, ...] = option(default=(0.001, 0.01), help="shares of wrong accusations", above=0, below=1)
    priors: tuple[float, ...] = option(
        default=(0.5, 0.1, 0.01), help="shares of members among records that are looked at", above=0, below=1
    )
    mocks: int = option(default=8, help="shadow models that play the model, to draw lines on", at_least=0)
    seconds: float | None = option(
        default=None, help="train shadow models only if one processor takes no longer than this", above=0
    )

    def __post_init__(self) -> None:
        labels_of(self.attacks)
        if self.augment is not None:
            check_queries(self.queries, self.augment)
        if self.members is not None:
            digest = pinned(self.members, self.members_split, self.members_digest, name="MembershipInference.members")
            object.__setattr__(self, "members_digest", digest)

    def measure(self, examination: Examination) -> Measurement:
        """Train shadow models, attack, and judge by the truth."""
        sides = sides_of(examination, self.members, self.members_split, shadows=self.shadows, seconds=self.seconds)
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
            found = audit_pool(
                pool,
                examination.target,
                sides.universe,
                self,
                augment=sides.training.augment,
                batch_size=examination.batch_size,
                seed=examination.seed,
                findings=sides.findings,
                progress=examination.progress,
            )
        found.samples = {"sample_id": sides.universe.data.sample_ids, **found.samples}
        return found


def audit_pool(
    pool: Pool,
    target: Target | BlackBox,
    universe: Universe,
    asked: MembershipInference,
    *,
    augment: str = "none",
    population: Dataset | None = None,
    batch_size: int = 256,
    seed: int = 0,
    findings: Sequence[Finding] = (),
    progress: Progress | None = None,
) -> Measurement:
    """Attack a target with a finished pool, and judge by the truth.

    Args:
        pool: shadow models of the records.
        target: the model, or its answers.
        universe: the records.
        asked: attacks, queries and rates.
        augment: how the shadow models' images were changed in training, for further queries.
        population: records that no model saw, for RMIA.
        batch_size: images in one forward pass.
        seed: root of the random streams.
        findings: further remarks, on the data.
        progress: where to show progress.
    """
    chosen = asked.augment or augment
    queries = PlainQueries(
        universe.data,
        asked.queries,
        augment=chosen if asked.queries > 1 else "none",
        seed=named_seed(seed, "membership queries"),
    )
    got = ask(pool, target, universe, queries, population=population, batch_size=batch_size, progress=progress)
    questions = questions_of(asked, None if isinstance(target, BlackBox) else target, seed)
    exposure = expose(got.answers, truth_of(universe), asked.attacks, questions, progress=progress)
    return measurement(exposure, findings=[*findings, *universe.findings()], cost=got.cost)


def questions_of(asked: Any, target: Target | None, seed: int) -> Questions:
    """What is asked of an attack; δ is that of a private training, where there was one."""
    stated = None if target is None else stated_epsilon(target.folder)
    return Questions(
        fprs=asked.fprs,
        priors=asked.priors,
        mocks=asked.mocks,
        delta=0.0 if stated is None else stated[1],
        stated_epsilon=None if stated is None else stated[0],
        seed=seed,
        remedy=f"Train more of them: {LARGER} --shadows 64",
    )


def truth_of(universe: Universe) -> Truth:
    """What is known of the records."""
    data = universe.data
    return Truth(
        member=universe.member,
        sample_ids=data.sample_ids,
        labels=data.labels,
        class_names=data.class_names,
        groups=data.groups,
        clusters=universe.clusters,
        rows=universe.rows,
        images=data.images,
    )
