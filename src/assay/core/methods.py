"""Method cards: what a method is, who published it, which settings it takes.

A card is written once, as a literal, in the file of its method::

    CARD = MethodCard(
        name="pgd",
        kind="attack",
        title="Projected gradient descent",
        summary="Sign or normalised gradient steps, projected onto the threat model.",
        settings="PGD",
        citation=Citation(key="madry2018", ...),
    )

and the concern lists its file in one line of ``METHODS``. Listing reads the
literals without running the file, so ``assay ls`` never imports torch.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError, did_you_mean

CONCERNS = ("training", "performance", "evasion", "boundary", "certify", "privacy", "membership", "watermark")


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A publication: who is owed the credit for a method."""

    key: str
    title: str
    authors: str
    year: int
    venue: str
    arxiv: str = ""

    def bibtex(self) -> str:
        """The entry for a bibliography."""
        rows = [("title", self.title), ("author", self.authors), ("year", str(self.year)), ("booktitle", self.venue)]
        if self.arxiv:
            rows += [("eprint", self.arxiv), ("archiveprefix", "arXiv")]
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows)
        return f"@inproceedings{{{self.key},\n{body}\n}}"


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """What a user must know of a method before choosing it.

    Args:
        name: as the command line and suites write it, such as ``"apgd-ce"``.
        kind: ``"attack"``, ``"objective"``, ``"recipe"``, ``"head"``, ``"probe"``, ``"inference"``,
            ``"watermark"`` or ``"edit"``.
        title: the name in words.
        summary: one sentence on what it does.
        settings: name of the settings class in the same file.
        citation: the publication, or ``None`` for common practice.
        version: raised whenever results change; it is part of a run's identity.
        norms: threat models an attack works in.
        members: names of the methods a composition runs; their authors are owed credit too.
        tasks: objectives only: the tasks whose models they are for.
        mode: attacks only: ``"fixed"`` budget, ``"minimum"`` norm, or ``"ensemble"``.
        module: where it lives; filled in by the listing.
    """

    name: str
    kind: str
    title: str
    summary: str
    settings: str
    citation: Citation | None = None
    version: int = 1
    norms: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    mode: str = ""
    members: tuple[str, ...] = ()
    module: str = ""


def cards(kind: str | None = None, concern: str | None = None) -> list[MethodCard]:
    """Every registered method, or those of one kind or one concern, in the order their concerns list them."""
    found = [card for name in ([concern] if concern else CONCERNS) for card in _cards_of(name)]
    return [card for card in found if kind is None or card.kind == kind]


def card(name: str, kind: str | None = None) -> MethodCard:
    """The card of one method by name; an unknown name is an error with a hint."""
    known = {item.name: item for item in cards(kind)}
    if name not in known:
        raise InputError(f"There is no {kind or 'method'} named {name!r}.{did_you_mean(name, known)}")
    return known[name]


def with_members(item: MethodCard, registry: Mapping[tuple[str, str], MethodCard]) -> list[MethodCard]:
    """A method and, for a composition, the methods it runs; the registry maps (kind, name) to cards."""
    return [item, *(registry[(item.kind, name)] for name in item.members if (item.kind, name) in registry)]


def settings_of(item: MethodCard) -> type:
    """The settings class of a method (imports its file)."""
    result = getattr(importlib.import_module(item.module), item.settings)
    assert isinstance(result, type)
    return result


def _cards_of(concern: str) -> Iterator[MethodCard]:
    package = f"assay.{concern}"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent
    for file in importlib.import_module(package).METHODS:
        for literal in _literals(folder / f"{file.replace('.', '/')}.py"):
            yield MethodCard(**literal, module=f"{package}.{file}")


@functools.lru_cache(maxsize=256)
def _literals(path: Path) -> tuple[dict[str, Any], ...]:
    """The keyword literals of every ``MethodCard(...)`` at the top level of a file."""
    citations = _citations(path)
    return tuple(
        {word.arg: _value(word.value, citations) for word in call.keywords if word.arg}
        for _, call in _calls(path, "MethodCard")
    )


def _citations(path: Path) -> dict[str, Citation]:
    """Citations a file names: its own, and those it imports from a file beside it."""
    found: dict[str, Citation] = {}
    for node in _tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            neighbour = path.parents[node.level - 1] / f"{node.module.replace('.', '/')}.py"
            own = _own_citations(neighbour) if neighbour.is_file() else {}
            found |= {alias.asname or alias.name: own[alias.name] for alias in node.names if alias.name in own}
    return found | _own_citations(path)


def _own_citations(path: Path) -> dict[str, Citation]:
    return {
        name: Citation(**{word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg})
        for name, call in _calls(path, "Citation")
    }


def _calls(path: Path, function: str) -> Iterator[tuple[str, ast.Call]]:
    """``NAME = function(...)`` at the top level of a file."""
    for node in _tree(path).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function:
            yield node.targets[0].id, call


@functools.lru_cache(maxsize=256)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _value(node: ast.expr, names: dict[str, Citation]) -> Any:
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Citation":
        return Citation(**{word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg})
    return ast.literal_eval(node)
