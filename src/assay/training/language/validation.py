"""Validation of a language model: the loss a token on documents it does not learn from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.estimates import bootstrap
from ...core.probes import Measurement, Metric
from ..validation import Validator
from .losses import window_losses

if TYPE_CHECKING:
    from ..batches import Batch
    from ..state import TrainState


class LanguageValidator(Validator):
    """The mean loss of each window, in nats a token."""

    batch = 8
    rows = 1

    def columns(self, state: TrainState, batch: Batch) -> Tensor:
        """The loss of one slice: [1, b]."""
        with torch.no_grad():
            losses = window_losses(state.outputs(batch.images), batch.images)
        return losses[None].double().cpu()

    def read(self, columns: np.ndarray) -> np.ndarray:
        """The loss of each window [N]."""
        losses: np.ndarray = columns[0]
        return losses

    def metrics(self, answers: np.ndarray) -> dict[str, float]:
        """The mean over windows."""
        return {"loss": float(answers.mean())}

    def report(self, answers: Any, measurement: Measurement) -> None:
        """Loss and perplexity, with intervals over documents."""
        measurement.samples = {"document": self.labels, "loss": answers}
        loss = bootstrap(answers, clusters=self.labels)
        about = "of validation text under the model; windows that begin in one document are one unit"
        measurement.metrics = [
            Metric.from_estimate(
                "validation_loss", loss, estimand=f"mean -log p of a token {about}", unit="nats", direction="lower"
            ),
            Metric(
                name="validation_perplexity",
                estimand=f"exp of the mean -log p of a token {about}",
                value=math.exp(loss.value),
                lo=math.exp(loss.lo) if math.isfinite(loss.lo) else None,
                hi=math.exp(loss.hi) if math.isfinite(loss.hi) else None,
                interval=f"{loss.method} {100 * loss.level:g}%",
                n=loss.n,
                unit="",
                direction="lower",
            ),
        ]
