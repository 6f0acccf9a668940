"""Texts: documents read from files, or the English that every Python carries, and windows of tokens cut from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.lazy import lazy

if TYPE_CHECKING:
    from .corpus import Corpus
    from .load import load_texts
    from .tokens import TokenDataset, token_windows

__all__ = ["Corpus", "TokenDataset", "load_texts", "token_windows"]

__getattr__, __dir__ = lazy(
    __name__,
    {"Corpus": ".corpus", "TokenDataset": ".tokens", "load_texts": ".load", "token_windows": ".tokens"},
)
