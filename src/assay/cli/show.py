"""Explain one method: what it does, its equation, its settings, and whom to cite."""

from __future__ import annotations

import argparse
import ast
import importlib.util
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from ..core.methods import MethodCard, card, cards, settings_of
from ..core.settings import allowed, fields_of
from .output import table


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay show``."""
    parser.add_argument("method", metavar="METHOD", help="a name from 'assay ls'")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Print the page of a method, or of each that has the name (a recipe and an attack may share one)."""
    same_name = [item for item in cards() if item.name == arguments.method] or [card(arguments.method)]
    for index, item in enumerate(same_name):
        if index:
            print("\n" + "-" * 40 + "\n")
        _page(item)
    return 0


def _page(item: MethodCard) -> None:
    print(f"{item.name}: {item.title} ({item.kind}, version {item.version})\n\n{item.summary}\n")
    if item.norms:
        mode = f"  Mode: {item.mode}." if item.mode else ""
        print(f"Norms: {', '.join(item.norms)}.{mode}\n")
    if item.tasks:
        print(f"For: {', '.join(item.tasks)}.\n")
    print(explanation(item))
    print()
    rows = settings_rows(settings_of(item))
    if rows:
        table("Settings", ["name", "default", "allowed", "what it is"], rows)
    else:
        print("No settings.")
    if item.citation is not None:
        print(f"\n{item.citation.bibtex()}")


def explanation(item: MethodCard) -> str:
    """The docstrings of a method's file and of its settings class, read without running it."""
    spec = importlib.util.find_spec(item.module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == item.settings]
    texts = [ast.get_docstring(tree) or "", *(ast.get_docstring(node) or "" for node in classes)]
    return "\n\n".join(text for text in texts if text and not text.startswith("Settings of "))


def settings_rows(cls: type) -> list[list[str]]:
    """name, default, what is allowed, help of every field of a settings class."""
    return [
        [
            field.name,
            "required" if field.default is MISSING else value_text(field.default),
            allowed(field) or "any",
            str(field.metadata.get("help", "")),
        ]
        for field, _ in fields_of(cls)
    ]


def value_text(value: Any) -> str:
    """A setting's value as one would write it in a suite; budgets as fractions.

    >>> value_text((8 / 255, 0.5)), value_text(None)
    ('[8/255, 0.5]', 'none')
    """
    from ..core.budgets import budget_text

    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return budget_text(value)
    return "none" if value is None else str(value)
