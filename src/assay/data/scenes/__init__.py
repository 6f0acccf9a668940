"""Built-in scenes: rendered pictures with exact masks and depth, and a class. No download, no files."""

from __future__ import annotations

from .reader import SPLITS, read

__all__ = ["SPLITS", "read"]
