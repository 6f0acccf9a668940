"""A causal language model: every token is predicted from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ...core.errors import SettingError
from ...core.files import write_atomic
from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..presets import Preset
from ..product import Product
from ..recipe import Companion, Recipe, Report
from .losses import window_losses
from .product import LanguageProduct, configuration, tokens_of
from .vocabulary import tokenizer_config

if TYPE_CHECKING:
    from ..batches import Batch
    from ..job import Job
    from ..state import TrainState

CARD = MethodCard(
    name="causal-lm",
    kind="recipe",
    title="Causal language model",
    summary="Learn a small GPT-2 and its vocabulary from text: predict every token from those before it.",
    settings="CausalLM",
    citation=Citation(
        key="radford2019language",
        title="Language Models are Unsupervised Multitask Learners",
        authors="Alec Radford and Jeffrey Wu and Rewon Child and David Luan and Dario Amodei and Ilya Sutskever",
        year=2019,
        venue="OpenAI technical report",
    ),
)


_USUAL = {
    "epochs": 2,
    "batch_size": 4,
    "optimizer": "adamw",
    "learning_rate": 0.004,
    "weight_decay": 0.1,
    "warmup_epochs": 0.1,
    "gradient_clip": 1.0,
}
"""About a minute on python-docs on one core."""


class _Files(Companion):
    """Writes what transformers needs beside the weights."""

    def __init__(self, job: Job, out: Path | None) -> None:
        self.job, self.out = job, out

    def report(self) -> Report:
        """Configuration and vocabulary, into the run folder."""
        data = tokens_of(self.job)
        files = {
            "config.json": configuration(self.job),
            "tokenizer.json": data.vocabulary,
            "tokenizer_config.json": tokenizer_config(data.length),
        }
        assert self.out is not None
        for name, text in files.items():
            write_atomic(self.out / name, text)
        return Report(files=list(files))


@settings
class CausalLM(Recipe):
    """min_θ mean_b -1/(L-1) Σ_t log p_θ(x_(t+1) | x_0 .. x_t) over windows of L tokens.

    Cost: 1 forward and 1 backward pass a window and step.
    """

    product: ClassVar[Product] = LanguageProduct()
    usual: ClassVar[Mapping[str, Any]] = MappingProxyType(_USUAL)
    presets: ClassVar[Mapping[str, Preset]] = {
        "larger": Preset(
            recipe={"width": 192, "layers": 4, "heads": 6, "dropout": 0.1},
            training={**_USUAL, "epochs": 8, "learning_rate": 0.003, "warmup_epochs": 0.5},
            remark="2.6 million weights and eight epochs: about a quarter of an hour on python-docs on one core.",
        )
    }

    vocab_size: int = option(default=4096, help="ids of the vocabulary, at most", at_least=257)
    context: int = option(default=256, help="tokens of a window, and positions of the model", at_least=2)
    width: int = option(default=128, help="size of the hidden states", at_least=1)
    layers: int = option(default=2, help="blocks of the network", at_least=1)
    heads: int = option(default=4, help="attention heads; they divide the width", at_least=1)
    dropout: float = option(default=0.0, help="share of values dropped in training", at_least=0, below=1)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise SettingError(
                f"CausalLM.heads is {self.heads} and width {self.width}; allowed: heads that divide the width."
            )

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """One forward and one backward pass."""
        losses = window_losses(state.outputs(batch.images), batch.images)
        loss = batch.mean(losses)
        state.backward(loss, len(losses))
        return {"loss": loss}

    def companion(self, job: Job, state: TrainState, out: Path | None) -> Companion:
        """What writes the files around the weights."""
        return _Files(job, out)
