"""A vocabulary learned from text: byte-level pair encoding, so that every text can be written in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...core.errors import MissingExtra

END = "<|endoftext|>"
"""The one id that stands for no text; it ends a document, and is id 0."""
FIRST = 0


def learn_vocabulary(texts: Sequence[str], size: int) -> Any:
    """Byte-level BPE: the bytes, and then the most frequent pairs of what there is, joined again and again.

    The same texts give the same vocabulary. It has fewer than ``size`` ids where the texts have no more pairs to join.

    Args:
        texts: what is counted.
        size: ids in all: 256 bytes, one end of text, and ``size - 257`` pairs.

    Returns:
        A ``tokenizers.Tokenizer``.

    Raises:
        MissingExtra: the package tokenizers is not installed.

    Cost: about a second for a million characters.

    Source: Sennrich, Haddow and Birch, arXiv 1508.07909; on bytes as in Radford et al. (2019), Section 2.2.

    >>> vocabulary = learn_vocabulary(["the cat and the hat"] * 9, 300)
    >>> ids = vocabulary.encode("the bat™").ids
    >>> vocabulary.decode(ids), vocabulary.token_to_id(END)
    ('the bat™', 0)
    """
    tokenizers = require_tokenizers()
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def encode_all(vocabulary: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text."""
    return [item.ids for item in vocabulary.encode_batch(list(texts), add_special_tokens=False)]


def tokenizer_config(context: int) -> str:
    """What ``tokenizer_config.json`` says, for transformers to load the vocabulary by."""
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": END for role in ("bos", "eos", "pad")},
    }
    return json.dumps(about, indent=2) + "\n"


def require_tokenizers() -> Any:
    """The package; MissingExtra if it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise MissingExtra("tokenizers", "hf", "A vocabulary") from None
    return tokenizers
