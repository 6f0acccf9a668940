"""Tokenizers of language models: text to ids and back, where each token stands, and whether they fit a mark."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, ModelError, SettingError

PREFIXES = ("hf:", "run:")
_SAMPLE = "The quick brown fox, 1,234 times; naïve “quotes” — and\nlines."


@dataclass(frozen=True, eq=False)
class Encoded:
    """A text as tokens.

    Args:
        ids: int64 [T].
        offsets: first character and end of every token, int64 [T, 2]; None where the tokenizer cannot tell.
    """

    ids: np.ndarray
    offsets: np.ndarray | None = None

    def characters(self, start: int, end: int) -> tuple[int, int] | None:
        """The characters that tokens ``start`` to ``end`` (exclusive) stand for; None where that is not known."""
        if self.offsets is None or not 0 <= start < end <= len(self.ids):
            return None
        chosen = self.offsets[start:end]
        return int(chosen[:, 0].min()), int(chosen[:, 1].max())

    def pieces(self, text: str) -> list[str] | None:
        """The text of every token; joined they are the text up to the last token's end.

        What lies between two tokens belongs to the second, and a character of several tokens to the first of them.

        >>> Encoded(np.array([5, 6]), np.array([[0, 3], [4, 7]])).pieces("one two")
        ['one', ' two']
        """
        if self.offsets is None:
            return None
        ends = np.maximum.accumulate(self.offsets[:, 1]).tolist()
        return [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


class Tokenizer:
    """A tokenizer of transformers. No special tokens are added, and code that comes with it is never run.

    Args:
        tokenizer: of transformers.
        name: for results and messages.

    Attributes:
        size: ids it may give: the largest id and one.
        digest: 32 hexadecimal digits, equal for tokenizers with the same vocabulary and the same ids for a sample.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._fast = bool(getattr(tokenizer, "is_fast", False))
        self._lock = threading.Lock()  # padding and truncation are state of the shared object
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
        self.size = max(vocabulary.values(), default=-1) + 1
        made = json.dumps([sorted(vocabulary.items(), key=lambda item: (item[1], item[0])), self.encode(_SAMPLE)])
        self.digest = hashlib.blake2b(made.encode(), digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, size={self.size})"

    @property
    def description(self) -> dict[str, Any]:
        """What a mark file keeps of it."""
        return {"name": self.name, "digest": self.digest, "size": self.size}

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return [int(i) for i in self.encode_many([text])[0].ids]

    def encode_many(self, texts: Sequence[str]) -> list[Encoded]:
        """Several texts at once: ids, and where every token stands."""
        if not texts:
            return []
        with self._lock:
            found = self._tokenizer(
                list(texts),
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                return_offsets_mapping=self._fast,
                verbose=False,
            )
        offsets = found["offset_mapping"] if self._fast else [None] * len(texts)
        return [
            Encoded(
                np.array(ids, dtype=np.int64),
                None if places is None else np.array(places, dtype=np.int64).reshape(-1, 2),
            )
            for ids, places in zip(found["input_ids"], offsets, strict=True)
        ]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids, as it is: no spaces are tidied, and special tokens stay."""
        return str(
            self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def tokens(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The text of every id by itself, for display."""
        return [self.decode([int(i)]) for i in ids]


def folder_of(spec: str) -> str | None:
    """The folder that a tokenizer's name means, or None if it means none.

    >>> folder_of("hf:models/tiny"), folder_of("tiny")
    ('models/tiny', None)
    """
    return next((spec[len(kind) :] for kind in PREFIXES if spec.startswith(kind) and len(spec) > len(kind)), None)


def load_tokenizer(spec: str) -> Tokenizer:
    """The tokenizer in a folder, ``hf:FOLDER`` or ``run:FOLDER``; nothing is asked of the network.

    Raises:
        SettingError: the name is written otherwise.
        MissingExtra: transformers is not installed.
        ModelError: the folder holds no tokenizer that can be loaded.
    """
    from ..subjects.huggingface import require_transformers, short_name

    folder = folder_of(spec)
    if folder is None:
        raise SettingError(f"The tokenizer is {spec[:200]!r}; allowed: hf:FOLDER, the folder of a saved tokenizer.")
    if not Path(folder).is_dir():
        raise ModelError(f"There is no folder {folder!r} for the tokenizer {spec!r}. Check the path.")
    transformers = require_transformers()
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return Tokenizer(tokenizer, short_name(folder))
    except Exception as error:  # transformers raises many kinds for files that are missing or damaged
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{folder!r} cannot be loaded as a tokenizer: {reason[:300]}. Needed: tokenizer.json and "
            "tokenizer_config.json, as save_pretrained writes them."
        ) from error
    finally:
        logging.set_verbosity(level)


def check_tokenizer(tokenizer: Tokenizer, vocab_size: int, *, known: Mapping[str, Any] | None = None) -> list[str]:
    """What speaks against detecting a mark with a tokenizer; empty if nothing does.

    Args:
        tokenizer: at hand.
        vocab_size: of the mark.
        known: what the mark file says of the tokenizer of the model that wrote.

    Raises:
        DataError: it gives ids that the mark does not know.
    """
    if tokenizer.size > vocab_size:
        raise DataError(
            f"The tokenizer {tokenizer.name!r} gives ids up to {tokenizer.size - 1:,}, and the mark is for "
            f"{vocab_size:,} ids. It is another tokenizer, or vocab_size is not the width of the model's logits; green "
            "lists depend on that number, so nothing would be detected."
        )
    digest = (known or {}).get("digest")
    if digest is not None and digest != tokenizer.digest:
        name = str((known or {}).get("name", "another"))[:60]
        return [
            f"the text was made with the tokenizer {name!r}, and {tokenizer.name!r} is not the same. "
            "Other ids lead to other lists: expect nothing to be detected."
        ]
    return []


def round_trip(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> float:
    """Share of ids that come back, in their order, when they become text and ids again.

    Text that a model wrote does not always: several sequences of ids may read the same. Far below 1 the tokenizer is
    probably another one.

    Args:
        tokenizer: to check.
        ids: int64 [T].

    Cost: O(T) to O(T^2) comparisons; give a few thousand ids at most.
    """
    before = [int(i) for i in ids]
    if not before:
        return 1.0
    after = tokenizer.encode(tokenizer.decode(before))
    blocks = SequenceMatcher(a=before, b=after, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(len(before), len(after))


def lost(tokenizer: Tokenizer, text: str) -> float:
    """Share of a text's characters, white space aside, that do not come back when it becomes ids and text again.

    A tokenizer that knows the text loses nothing, or little if it folds letters. Characters are counted, not compared
    at their places.
    """
    before = Counter(letter for letter in text if not letter.isspace())
    after = Counter(tokenizer.decode(tokenizer.encode(text)))
    return (before - after).total() / before.total() if before else 0.0
