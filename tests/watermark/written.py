"""Documents that carry a mark, and documents that do not, without a model; and a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.subjects.language import LanguageModel
from assay.training.language.vocabulary import learn_vocabulary, tokenizer_config
from assay.watermark import Watermark

from .toys import marked


def mark(scheme: str = "philox", **settings: object) -> Watermark:
    """A mark over 1000 ids."""
    return Watermark(scheme, vocab_size=1000, **{"key": 4242, **settings})  # type: ignore[arg-type]


def with_mark(watermark: Watermark, count: int, length: int, *, share: float = 0.5, first: int = 0) -> list[np.ndarray]:
    """Documents in which a share of the tokens is favoured."""
    return [np.array(marked(watermark.scheme, length, seed=first + number, share=share)) for number in range(count)]


def without_mark(count: int, length: int, *, seed: int = 0, vocab_size: int = 1000) -> list[np.ndarray]:
    """Random ids."""
    return list(np.random.default_rng(seed).integers(0, vocab_size, size=(count, length)))


def tiny_model(vocab_size: int = 97, positions: int = 128) -> LanguageModel:
    """A language model with random weights, and without a tokenizer."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=vocab_size,
            n_positions=positions,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.1,
        )
        return LanguageModel(transformers.GPT2LMHeadModel(config), name="tiny")


def save_model(folder: Path) -> str:
    """A model on disk, with a tokenizer; its name for ``--model``."""
    vocabulary = learn_vocabulary(["the name of the file is the name of the path of a small test"] * 5, 300)
    lm = tiny_model(vocabulary.get_vocab_size() + 7)
    lm.model.save_pretrained(folder)
    vocabulary.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(tokenizer_config(128), encoding="utf-8")
    return f"hf:{folder}"
