"""Validation of an encoder: do its embeddings still tell images apart, and what the recipe cares for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...core.estimates import bootstrap
from ...core.probes import Finding, Measurement, Metric
from ..validation import Validator
from .collapse import Spread, spread
from .product import Headed
from .recipe import EncoderRecipe

if TYPE_CHECKING:
    from ..batches import Batch
    from ..job import Job
    from ..state import TrainState

SAMPLE = 256
FEW = 8
"""Fewer embeddings than this say nothing of a collapse."""


@dataclass(frozen=True)
class EncoderAnswers:
    """What was found on the samples.

    Args:
        embeddings: of the clean images [N, D].
        measured: what the recipe measured, one value a sample [N], by name.
    """

    embeddings: np.ndarray
    measured: dict[str, np.ndarray]

    @property
    def spread(self) -> Spread:
        """How far the embeddings spread."""
        return spread(self.embeddings)


class EncoderValidator(Validator):
    """Embeds the validation images, or the first training images where there are none."""

    def __init__(self, job: Job, state: TrainState) -> None:
        own = job.validation is not None
        super().__init__(job, state, job.validation if job.validation is not None else job.data.head(SAMPLE))
        assert isinstance(job.recipe, EncoderRecipe)
        assert isinstance(state.network, Headed)
        self.recipe = job.recipe
        self.name = "validation" if own else "sample"
        self.about = "validation images" if own else f"the first {len(self)} training images"
        self.rows = state.network.backbone.dim + len(self.recipe.measured)

    def columns(self, state: TrainState, batch: Batch) -> Tensor:
        """Embedding and measurements of one slice: [rows, b]."""
        with torch.no_grad():
            features = state.outputs(batch.images).features
        found = self.recipe.measure(state, batch, features)
        rows = [features.embedding.T, *(found[name].detach()[None] for name in self.recipe.measured)]
        return torch.cat([row.double().cpu() for row in rows])

    def read(self, columns: np.ndarray) -> EncoderAnswers:
        """Embeddings and measurements by name, from [rows, N]."""
        names = self.recipe.measured
        dim = len(columns) - len(names)
        return EncoderAnswers(columns[:dim].T, dict(zip(names, columns[dim:], strict=True)))

    def metrics(self, answers: EncoderAnswers) -> dict[str, float]:
        """Spread of the embeddings, and the means of what the recipe measured."""
        found = answers.spread._asdict()
        return found | {name: float(values.mean()) for name, values in answers.measured.items()}

    def report(self, answers: EncoderAnswers, measurement: Measurement) -> None:
        """Metrics, a value a sample where there are validation data, and a finding where embeddings collapsed."""
        found, count = answers.spread, len(self)
        for name, value, estimand in (
            ("deviation", found.deviation, "spread of unit embeddings; 0 if constant, near 1 if they fill the sphere"),
            ("effective_rank", found.effective_rank, "number of directions over which embeddings spread"),
        ):
            measurement.metrics.append(
                Metric(
                    name=f"{self.name}_{name}",
                    estimand=f"{estimand}, {self.about}",
                    value=value,
                    lo=None,
                    hi=None,
                    interval="",
                    n=count,
                    unit="dimensions" if name == "effective_rank" else "",
                )
            )
        for name, values in answers.measured.items():
            estimand, direction = self.recipe.measured[name]
            estimate = bootstrap(values)
            measurement.metrics.append(
                Metric.from_estimate(
                    f"{self.name}_{name}",
                    estimate,
                    estimand=f"{estimand}, mean over {self.about}",
                    unit="",
                    direction=direction,
                )
            )
        if self.name == "validation":
            measurement.samples = dict(answers.measured)
        if found.collapsed and count >= FEW:
            measurement.findings.append(_collapsed(found, self.about))


def _collapsed(found: Spread, about: str) -> Finding:
    return Finding(
        code="collapsed-embeddings",
        severity="serious",
        message=f"The embeddings of {about} hardly tell images apart: their spread is {found.deviation:.2g} "
        f"(1 would fill the sphere) over {found.effective_rank:.2g} directions. What is measured with this encoder "
        "says little.",
        remedy="Train longer or with another learning rate or batch size; for dino, a lower teacher temperature or a "
        "faster centre.",
    )
