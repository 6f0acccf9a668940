"""What the recipe for language models makes: a folder that transformers loads as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import DataError, ModelError, SettingError
from ...data.texts.tokens import TokenDataset
from ...subjects.huggingface import quietly, require_transformers
from ...subjects.language import KIND, load_language_model
from ..product import Product
from .vocabulary import FIRST

if TYPE_CHECKING:
    from ..job import Job
    from ..state import TrainState
    from ..validation import Validator

NETWORK = "gpt2"
_SPREAD = 0.7
"""First weights are normal with this deviation over sqrt(width); the usual 0.02 is for widths of about a thousand.

With it a width of 128 reaches a loss of 4.6 in the time in which 0.02 reaches 5.4.
"""


class Causal(nn.Module):
    """GPT-2 with its embedding as output matrix, under the names that transformers' own language model has.

    Args:
        transformer: a ``GPT2Model``.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer: Any = transformer

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [b, L] -> logits [b, L, V]."""
        hidden = self.transformer(input_ids=ids, use_cache=False).last_hidden_state
        return F.linear(hidden, self.transformer.wte.weight)


class LanguageProduct(Product):
    """A causal language model with the vocabulary of its training data."""

    network = NETWORK
    labelled = False
    reads = "texts"
    measures: tuple[str, ...] = ("loss",)
    examine = "assay watermark generate --model run:{out} --key-file KEY --prompt TEXT"

    def check(self, job: Job) -> None:
        """InputError for tokens without a vocabulary of their own, another network, or settings of classifiers."""
        require_transformers()
        if job.network != NETWORK:
            raise ModelError(
                f"The network is {job.network!r}; language models are of the shape {NETWORK!r}. Leave the network out, "
                "and set width, layers and heads."
            )
        vocabularies = {data.vocabulary for data in (job.data, job.validation) if isinstance(data, TokenDataset)}
        if len(vocabularies) > 1 or "" in vocabularies:
            raise DataError(
                "The tokens carry no vocabulary, or training and validation tokens carry different ones. Make them "
                "together, with assay.training.language.tokens.tokenized."
            )
        if job.settings.watch:
            raise SettingError(
                f"TrainSettings.watch is {job.settings.watch}, which keeps weights for 'assay dynamics'; that examines "
                f"classifiers, and the recipe {job.card.name!r} makes a language model. Leave watch out."
            )
        if job.settings.augment != "none":
            raise SettingError(
                f"TrainSettings.augment is {job.settings.augment!r}, which is for images. Leave it out for texts."
            )

    def build(self, job: Job) -> nn.Module:
        """The network with its first weights, from the global random state."""
        transformers = require_transformers()
        return Causal(transformers.GPT2Model(_config(job)))

    def preprocess(self, job: Job) -> nn.Module:
        """Nothing: ids are what the network takes."""
        return nn.Identity()

    def validator(self, job: Job, state: TrainState) -> Validator | None:
        """What measures the loss a token."""
        from .validation import LanguageValidator

        return None if job.validation is None else LanguageValidator(job, state, job.validation)

    def record(self, job: Job) -> dict[str, Any]:
        """What ``model.json`` holds; the configuration of the network is beside it in ``config.json``."""
        data = tokens_of(job)
        return {
            "schema": 1,
            "kind": KIND,
            "recipe": job.card.name,
            "network": job.network,
            "vocab_size": data.vocab_size,
            "context": data.length,
        }

    def describe(self, out: Path) -> Mapping[str, Any]:
        """The finished model, as a record says it."""
        return load_language_model(f"run:{out}").describe()


def configuration(job: Job) -> str:
    """What ``config.json`` says."""
    text: str = _config(job).to_json_string(use_diff=True)
    return text


def tokens_of(job: Job) -> TokenDataset:
    """The training data, which are tokens."""
    assert isinstance(job.data, TokenDataset)
    return job.data


def _config(job: Job) -> Any:
    from .causal_lm import CausalLM

    recipe, data, transformers = job.recipe, tokens_of(job), require_transformers()
    assert isinstance(recipe, CausalLM)
    with quietly(transformers):
        return transformers.GPT2Config(
            vocab_size=data.vocab_size,
            n_positions=data.length,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            resid_pdrop=recipe.dropout,
            embd_pdrop=recipe.dropout,
            attn_pdrop=recipe.dropout,
            initializer_range=_SPREAD * recipe.width**-0.5,
            bos_token_id=FIRST,
            eos_token_id=FIRST,
            architectures=["GPT2LMHeadModel"],
        )
