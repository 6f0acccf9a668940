r"""Probe: one encoder on one task, attacked in its embedding space and at the task's output.

Embedding attacks maximise d(f(x + δ), f(x)) over ||δ|| <= ε, with f(x) computed once, and know neither
labels nor head; the same attacked images are then shown to every head (transfer). Output attacks
maximise the task's own loss through encoder and head. Metrics are pooled over images and averaged over
heads, which differ in their training seed. Without an adversary, and under random noise of length ε, the
same metrics are taken for comparison.

Cost: embedding attacks steps · restarts passes an image, objective and budget, whatever the number of heads;
output attacks as many for each head.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ...core.errors import DataError, ModelError, SettingError, did_you_mean
from ...core.methods import Citation, MethodCard
from ...core.probes import Cost, Finding, Measurement
from ...core.progress import Progress
from ...core.settings import option, settings

if TYPE_CHECKING:
    from ...core.shards import Shards
    from ...subjects.encoders import Encoder
    from ...subjects.target import Target
    from .transfers import Transfers

CARD = MethodCard(
    name="cross-task",
    kind="probe",
    title="Cross-task robustness of an encoder",
    summary="What every task on an encoder keeps of its quality under attack, at the embedding or at the output.",
    settings="CrossTask",
    citation=Citation(
        key="kowalczuk2024benchmarking",
        title="Benchmarking Robust Self-Supervised Learning Across Diverse Downstream Tasks",
        authors="Antoni Kowalczuk and Jan Dubi{\\'n}ski and Atiyeh Ashari Ghomi and Yi Sui and George Stein and "
        "Jiapeng Wu and Jesse C. Cresswell and Franziska Boenisch and Adam Dziedzic",
        year=2024,
        venue="ICML Workshop on Foundation Models in the Wild",
        arxiv="2407.12588",
    ),
    norms=("linf", "l2", "l1"),
)

TASKS = ("classification", "segmentation", "depth", "embedding")
EMBEDDING_ATTACKS = ("embedding-l2", "embedding-patch-l2")
OUTPUT_ATTACKS = {
    "classification": ("ce", "margin"),
    "segmentation": ("seg-pgd", "cos-pgd"),
    "depth": ("silog-gradient",),
    "embedding": (),
}


@settings
class CrossTask:
    """Settings of the cross-task probe."""

    task: str = option(default="embedding", help="what is measured", choices=TASKS)
    norm: str = option(default="linf", help="norm of the perturbation", choices=("linf", "l2", "l1"))
    eps: tuple[float, ...] = option(
        default=(2 / 255, 4 / 255, 8 / 255), help="budgets, in units of the raw input", above=0
    )
    attacks: tuple[str, ...] = option(
        default=(),
        help="objectives from 'assay ls objective'; default: two in embedding space and the task's own",
    )
    method: str = option(default="pgd", help="how the objectives are climbed", choices=("pgd", "apgd", "radii"))
    steps: int = option(default=20, help="gradient steps", at_least=1)
    restarts: int = option(default=1, help="restarts, of which the strongest counts", at_least=1)
    pictures: int = option(default=3, help="images to show", at_least=0, at_most=20)

    def __post_init__(self) -> None:
        from ..objectives.registry import OBJECTIVES

        if not self.eps:
            raise SettingError("CrossTask.eps is empty; give at least one budget, such as [8/255].")
        object.__setattr__(self, "eps", tuple(sorted(set(self.eps))))
        if not self.attacks:
            object.__setattr__(self, "attacks", (*EMBEDDING_ATTACKS, *OUTPUT_ATTACKS[self.task]))
        for name in self.attacks:
            if name not in OBJECTIVES:
                raise SettingError(f"CrossTask.attacks names {name!r}.{did_you_mean(name, OBJECTIVES)}")

    def in_embedding_space(self) -> tuple[str, ...]:
        """Objectives that need no label and no head."""
        from ..objectives.registry import OBJECTIVES

        return tuple(name for name in self.attacks if "embedding" in OBJECTIVES[name].tasks)

    def at_the_output(self) -> tuple[str, ...]:
        """Objectives of the task."""
        from ..objectives.registry import OBJECTIVES

        if self.task == "embedding":
            return ()
        return tuple(name for name in self.attacks if self.task in OBJECTIVES[name].tasks)

    def expected_cost(
        self, *, samples: int, classes: int = 0, heads: int = 1, patches: bool = True, shared: bool = False
    ) -> Cost:
        """Passes of encoder and head together.

        Args:
            samples: images.
            classes: does not matter.
            heads: whole pipelines that are attacked.
            patches: whether the encoder gives patch features.
            shared: the embedding attacks are searched for another task already.
        """
        from ..objectives.registry import OBJECTIVES

        def climbs(names: Sequence[str]) -> int:
            return sum(max(1, len(OBJECTIVES[name].members)) for name in names) * self.restarts

        embedding = [name for name in self.in_embedding_space() if patches or not needs_patches(name)]
        output = self.at_the_output()
        searches = (0 if shared else climbs(embedding)) + heads * climbs(output)
        scores = heads * (1 + len(self.eps) * (1 + len(embedding) + len(output)))
        steps = len(self.eps) * self.steps * searches
        return Cost(
            forward=samples * (steps + len(self.eps) * 2 * searches + scores),
            backward=samples * steps,
        )

    def measure(self, examination: Any) -> Measurement:
        """Metrics on clean and attacked images; needs a :class:`Bench`."""
        if not isinstance(examination, Bench):
            return Measurement(
                not_applicable="this probe examines encoders with their heads; use assay evade --encoder ENCODER."
            )
        return self.examine(examination).measurement

    def examine(self, bench: Bench) -> Examined:
        """The measurement, and the sums from which it was made."""
        from .cells import Cells
        from .view import View

        started = time.perf_counter()
        cells = Cells(self, bench)
        found = cells.measure()
        view = View(self, bench, cells, found)
        measurement = Measurement(
            metrics=view.metrics(),
            samples=view.columns(),
            findings=[*cells.findings, *view.findings()],
            figures=view.figures(),
            panels=view.panels(),
        )
        measurement.cost = cells.cost + Cost(seconds=time.perf_counter() - started)
        return Examined(measurement=measurement, sums=view.sums, sample_ids=cells.sample_ids)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A finished cross-task measurement.

    Args:
        measurement: metrics, figures and pictures.
        sums: sums [H, N, F] of all heads and images by ``clean``, ``noise@BUDGET``, ``embedding@BUDGET``,
            ``output@BUDGET`` and ``worst@BUDGET``, see :mod:`assay.evasion.cross_task.scores`.
        sample_ids: the images that counted, N of them.
    """

    measurement: Measurement
    sums: dict[str, np.ndarray]
    sample_ids: list[int]


@dataclass(kw_only=True)
class Bench:
    """What a cross-task measurement works on.

    Args:
        encoder: under examination.
        heads: whole pipelines from raw images to the answer of the task, one a training seed; for the task
            embedding none.
        images: raw [N, C, H, W].
        references: labels [N], masks [N, H, W] or depth maps [N, H, W]; None for the task embedding.
        sample_ids: names of the images, N distinct integers; 0..N-1 if not given.
        class_names: of the task, for people.
        transfers: attacked images in embedding space, shared by the tasks that use the same images; None: searched
            for this measurement alone.
        seed: root of every random stream.
        batch_size: images at a time; results do not depend on it.
        shards: where finished parts are kept; None keeps nothing.
        scratch: folder for parts of unfinished attacks, emptied as they finish; None keeps nothing.
        progress: where progress is shown.
    """

    encoder: Encoder
    heads: Sequence[Target[Any]] = ()
    images: Tensor
    references: Any = None
    sample_ids: Sequence[int] | None = None
    class_names: Sequence[str] = ()
    transfers: Transfers | None = None
    seed: int = 0
    batch_size: int = 64
    shards: Shards | None = None
    scratch: Path | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))

    def prepared(self, task: str) -> Bench:
        """Checked, with references as tensors; for the task embedding with the encoder itself as its head."""
        from ..evaluation import check_ids
        from .transfers import Transfers

        view = self.encoder.target("global")
        images = self.encoder.check_images(self.images)
        ids = check_ids(self.sample_ids, len(images))
        heads, references = list(self.heads), self.references
        if task == "embedding":
            heads, references = [view], view.predict(images, batch_size=self.batch_size)
        if not heads:
            raise ModelError(f"There is no head for {task}. Train one with 'assay train probe' or train_head().")
        for head in heads:
            if head.task.name != task:
                raise ModelError(f"The head {head.name!r} is for {head.task.name}, and the task is {task}.")
        if references is None:
            raise DataError(f"There are no references for the task {task}; labels, masks or depth maps are needed.")
        references = heads[0].task.check_references(references, images)
        transfers = self.transfers or Transfers(
            self.encoder, images, ids, seed=self.seed, batch_size=self.batch_size, progress=self.progress
        )
        return replace(self, heads=heads, images=images, references=references, sample_ids=ids, transfers=transfers)


def needs_patches(objective: str) -> bool:
    """Whether an embedding objective looks at patch features."""
    return "patch" in objective or "both" in objective


def excluded_finding(excluded: int, total: int) -> Finding:
    """Images without anything to be held against were left out."""
    return Finding(
        code="excluded",
        severity="warning",
        message=f"{excluded} of {total} images have no pixel that counts, and were left out of every number.",
        remedy="Check masks or depth maps of these images if that was not expected.",
        value=float(excluded),
    )
