"""Probe: the signed distance of every sample to the decision boundary.

    R(x) = min ||x̂ - x|| subject to φ(x̂) = 0,  negative where φ(x) < 0

for φ the exact margin z_y - max_{j≠y} z_j, or the soft one of the paper. What a search
finds is an upper bound of |R|. With the exact margin, the share of samples with R <= r
therefore bounds the error under an adversary of budget r from below, for every r at once.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..core.methods import MethodCard
from ..core.probes import Cost, Finding, Measurement
from ..core.settings import option, settings
from ..subjects.baselines import load_baseline, pinned
from .paper import CITATION

if TYPE_CHECKING:
    from torch import Tensor

    from ..subjects.examination import Examination
    from ..subjects.target import Target

CARD = MethodCard(
    name="margins",
    kind="probe",
    title="Distance to the decision boundary",
    summary="Signed distance of every sample to the nearest point of the decision boundary, negative where the model "
    "is wrong.",
    settings="Margins",
    citation=CITATION,
    norms=("linf", "l2"),
)

BELOW = {"linf": 8 / 255, "l2": 0.5}
FINISH = 20  # passes that end a walk on the boundary, and two that tell the classes on its sides
PER_SAMPLE = ("signed_margin", "found", "residual", "slope", "alignment", "correct", "predicted", "neighbour")


@dataclass(frozen=True, eq=False)
class Margin:
    """What was found for one model, in the order of the samples.

    Args:
        name: of the model.
        signed_margin: R, [N]; infinite where no boundary point was found.
        found: [N] bool.
        residual: |φ| at the boundary point by the model itself, [N].
        slope: dual norm of the gradient of φ there, [N].
        alignment: how well the condition of a nearest point holds there, [N] in [0, 1].
        correct: whether the clean sample is classified correctly, [N] bool.
        predicted: class of the clean sample, [N].
        neighbour: strongest class other than the label at the boundary point, [N]; -1 where there is none.
        points: boundary points [N, ...]; the clean sample where there is none.
        cost: passes of one sample, and seconds.
        findings: what the search remarked.
    """

    name: str
    signed_margin: np.ndarray
    found: np.ndarray
    residual: np.ndarray
    slope: np.ndarray
    alignment: np.ndarray
    correct: np.ndarray
    predicted: np.ndarray
    neighbour: np.ndarray
    points: Tensor
    cost: Cost
    findings: list[Finding]

    @property
    def negative(self) -> np.ndarray:
        """Whether the sample lies on the wrong side, [N] bool; -0.0 is a wrong side that touches the boundary."""
        return np.signbit(self.signed_margin)

    def vulnerable(self, below: float) -> np.ndarray:
        """Whether the sample lies on its own side, but nearer to the boundary than ``below``: [N] bool."""
        return ~self.negative & (self.signed_margin < below)


@settings
class Margins:
    """Settings of the margins probe."""

    norm: str = option(default="linf", help="norm of the distance", choices=("linf", "l2"))
    temperature: float | None = option(
        default=None, help="sharpness of the soft margin, 5 in the paper; none: the exact decision boundary", above=0
    )
    steps: int = option(default=20, help="iterations of the search", at_least=1)
    below: float | None = option(
        default=None, help="radius below which a sample is vulnerable; default: 8/255 for linf, 0.5 for l2", above=0
    )
    baseline: str | None = option(default=None, help="second model: folder of 'assay train', hf:FOLDER, python:...")
    baseline_digest: str | None = option(
        default=None, help="checksum of the baseline's weights; filled in for a folder, and then checked"
    )

    def __post_init__(self) -> None:
        if self.temperature == math.inf:
            object.__setattr__(self, "temperature", None)
        if self.below is None:
            object.__setattr__(self, "below", BELOW[self.norm])
        digest = pinned(self.baseline, self.baseline_digest, name="Margins.baseline")
        object.__setattr__(self, "baseline_digest", digest)

    @property
    def radius(self) -> float:
        """``below``, as it was resolved."""
        return BELOW[self.norm] if self.below is None else self.below

    @property
    def exact(self) -> bool:
        """Whether the boundary is the model's own, and not a soft one."""
        return self.temperature is None

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """Every sample walking to the end, for each model; most arrive earlier."""
        walks = samples if self.baseline is None else 2 * samples
        return Cost(forward=walks * (self.steps + FINISH), backward=walks * (self.steps + 3))

    def measure(self, examination: Examination) -> Measurement:
        """Find the nearest boundary point of every sample, for one model or two."""
        from . import margins_view as view

        own = self._search(examination, examination.target, "model")
        baseline = None
        if self.baseline is not None:
            baseline = self._search(examination, load_baseline(self.baseline, examination), "baseline")
        return Measurement(
            metrics=view.metrics(self, examination, own, baseline),
            samples=_columns(examination, own, baseline),
            findings=view.findings(self, examination, own, baseline),
            figures=view.figures(self, examination, own, baseline),
            cost=own.cost if baseline is None else own.cost + baseline.cost,
            gallery=view.most_fragile(self, examination, own),
        )

    def _search(self, examination: Examination, target: Target, role: str) -> Margin:
        """All samples in chunks, each kept when it is done."""
        import torch

        parts = []
        with examination.progress.task(f"margins {self.norm}, {target.name}", total=len(examination.labels)) as task:
            for rows in torch.arange(len(examination.labels)).split(max(1, examination.batch_size)):
                parts.append(self._kept(examination, target, role, rows))
                task.advance(len(rows))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in PER_SAMPLE}
        points = examination.images.clone()
        points[torch.from_numpy(columns["found"])] = torch.cat([torch.from_numpy(part["points"]) for part in parts])
        passes = np.sum([part["passes"] for part in parts], axis=0)
        remarks = {text: None for part in parts for text in json.loads(str(part["findings"]))}
        return Margin(
            name=target.name,
            **columns,
            points=points,
            cost=Cost(
                seconds=sum(float(part["seconds"]) for part in parts), forward=int(passes[0]), backward=int(passes[1])
            ),
            findings=[Finding(**json.loads(text)) for text in remarks],
        )

    def _kept(self, examination: Examination, target: Target, role: str, rows: Tensor) -> dict[str, np.ndarray]:
        """One chunk, from the store or searched and stored."""
        ids = [examination.sample_ids[row] for row in rows.tolist()]
        digest = hashlib.blake2b(f"{target.digest}|{ids}".encode(), digest_size=8).hexdigest()
        key, shards = f"margins/{role}/{digest}", examination.shards
        if shards is not None and key in shards:
            return shards.get(key)
        part = self._searched(examination, target, rows, ids)
        if shards is not None:
            shards.put(key, **part)
        return part

    def _searched(
        self, examination: Examination, target: Target, rows: Tensor, ids: list[int]
    ) -> dict[str, np.ndarray]:
        from .closest import closest_boundary_points

        images, labels = examination.images[rows], examination.labels[rows]
        seen = closest_boundary_points(
            target,
            images,
            labels,
            self.norm,
            math.inf if self.temperature is None else self.temperature,
            self.steps,
            examination.seed,
            batch_size=examination.batch_size,
            sample_ids=ids,
        )
        answers = target.predict(images, batch_size=examination.batch_size).argmax(1)
        there = target.predict(seen.points, batch_size=examination.batch_size)
        others = there.scatter(1, labels[:, None], -math.inf).argmax(1)
        return {
            **{name: getattr(seen, name).cpu().numpy() for name in PER_SAMPLE[:6]},
            "predicted": answers.numpy(),
            "neighbour": others.where(seen.found.cpu(), others.new_tensor(-1)).numpy(),
            "points": seen.points[seen.found].cpu().numpy(),
            "passes": np.array([seen.cost.forward + 2 * len(rows), seen.cost.backward]),
            "seconds": np.array(seen.cost.seconds),
            "findings": np.array(json.dumps([json.dumps(asdict(finding)) for finding in seen.findings])),
        }


def _columns(examination: Examination, own: Margin, baseline: Margin | None) -> dict[str, np.ndarray]:
    here = np.where(own.signed_margin == 0, "on the boundary already", "search")
    columns = {
        "label": examination.labels.cpu().numpy(),
        "predicted": own.predicted,
        "correct": own.correct,
        "signed_margin": own.signed_margin,
        "found": own.found,
        "how_found": np.where(own.found, here, "not found"),
        "neighbour": own.neighbour,
        "residual": own.residual,
        "slope": own.slope,
        "alignment": own.alignment,
    }
    return columns if baseline is None else {**columns, "baseline_signed_margin": baseline.signed_margin}
