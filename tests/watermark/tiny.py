"""A tokenizer of 400 ids that any test may have, and text that carries a mark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from assay.watermark import Watermark

WORDS = """
the of and to in is that it was for on are as with his they at be this from have or by one had not but
what all were when we there can an your which their said if do will each about how up out them then she
many some so these would other into has more her two like him see time could no make than first been its
who now people my made over did down only way find use may water long little very after words called just
where most know
""".split()  # noqa: SIM905


def save_tokenizer(folder: Path, *, size: int = 400) -> Path:
    """A byte-level tokenizer of common English words, as ``save_pretrained`` writes it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    text = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(0, len(WORDS), 3)]
    made.train_from_iterator(text, trainer)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>").save_pretrained(folder)
    return folder


def plain_words(n: int, seed: int = 0) -> str:
    """``n`` common words in random order."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, n).tolist())


def marked_ids(mark: Watermark, n: int, *, share: float = 0.7, seed: int = 0) -> list[int]:
    """``n`` ids of which about ``share`` are green and the others are drawn blindly."""
    rng = np.random.default_rng(seed)
    size, width = mark.settings.vocab_size, mark.scheme.preceding
    ids = rng.integers(0, size, width).tolist()
    for _ in range(n):
        green = rng.random() < share
        ids.append(int(rng.choice(mark.green_ids(ids[len(ids) - width :])) if green else rng.integers(size)))
    return [int(i) for i in ids[width:]]
