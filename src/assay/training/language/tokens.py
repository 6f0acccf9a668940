"""From texts to what the recipe learns from: a vocabulary, and windows of its ids."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...data.texts.tokens import TokenDataset, token_windows
from .vocabulary import FIRST, encode_all, learn_vocabulary

if TYPE_CHECKING:
    from ...data.texts.corpus import Corpus
    from .causal_lm import CausalLM


def tokenized(
    recipe: CausalLM, corpus: Corpus, validation: Corpus | None = None
) -> tuple[TokenDataset, TokenDataset | None]:
    """Learn a vocabulary from the training texts, and cut both corpora into windows of its ids.

    Args:
        recipe: how many ids, and how long a window.
        corpus: the training texts.
        validation: texts that neither the vocabulary nor the model learns from.

    Raises:
        MissingExtra: the package tokenizers is not installed.
        DataError: less text than one window.

    Cost: about two seconds for a million characters.
    """
    vocabulary = learn_vocabulary(corpus.texts, recipe.vocab_size)
    cut = partial(
        token_windows,
        encode=partial(encode_all, vocabulary),
        length=recipe.context,
        stop=FIRST,
        vocab_size=vocabulary.get_vocab_size(),
        vocabulary=vocabulary.to_str(pretty=False),
    )
    return cut(corpus), None if validation is None else cut(validation)
