"""Texts to train on: the flags that name them, and what the recipe makes of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError

if TYPE_CHECKING:
    from ..data.texts import TokenDataset
    from ..training.language.causal_lm import CausalLM

TEXTS_HELP = "texts: python-docs (built in), a .txt, .jsonl or .tsv file, or a folder of these"


def add_text_data_flags(parser: argparse.ArgumentParser) -> None:
    """``--data`` and how it is read."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="DATA", required=True, help=TEXTS_HELP)
    group.add_argument(
        "--split",
        metavar="NAME",
        help="train, test or all (default: train; where there are no splits, one document of ten is for testing)",
    )
    group.add_argument(
        "--text-key",
        metavar="NAME",
        help="field or column with the text; a number counts the columns of a .tsv file without a header, from 0",
    )


def read_tokens(arguments: argparse.Namespace, recipe: CausalLM) -> dict[str, Any]:
    """The training data and the validation data that the flags name, as ``train`` takes them."""
    from ..data.texts import load_texts
    from ..training.language.tokens import tokenized

    def read(split: str, limit: int | None = None) -> Any:
        return load_texts(arguments.data, split=split, text_key=arguments.text_key, limit=limit)

    if arguments.split is not None:
        corpus = read(arguments.split, arguments.limit)
    else:
        try:
            corpus = read("train", arguments.limit)
        except DataError:
            corpus = read("all", arguments.limit)
    held_out = read(arguments.validation) if arguments.validation else None
    data, validation = tokenized(recipe, corpus, held_out)
    return {"data": data, "validation": validation}


def amount(data: TokenDataset) -> str:
    """How much there is to learn from, in words."""
    return f"{len(data)} windows of {data.length} tokens, {data.vocab_size} ids"
