"""Credit where it is owed: the publications behind the methods of a set of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..core.methods import Citation, MethodCard, cards, with_members
from ..core.runs import Run


@dataclass(frozen=True, kw_only=True)
class Credit:
    """One publication and what it was used for."""

    citation: Citation
    used_for: str


def credits(runs: Sequence[Run]) -> list[Credit]:
    """Publications of the methods of ``runs``, attacks inside a probe included, each once."""
    purposes: dict[str, list[str]] = {}
    publications: dict[str, Citation] = {}
    for card in _used(runs):
        if card.citation is not None:
            publications[card.citation.key] = card.citation
            titles = purposes.setdefault(card.citation.key, [])
            titles += [card.title] if card.title not in titles else []
    return [Credit(citation=publications[key], used_for="; ".join(titles)) for key, titles in purposes.items()]


def card_of(run: Run) -> MethodCard | None:
    """The card of a run's method, if this installation has it."""
    return _registry().get((str(run.method.get("kind")), str(run.method.get("name"))))


def _used(runs: Sequence[Run]) -> Iterator[MethodCard]:
    registry = _registry()
    for run in runs:
        own = (str(run.method.get("kind")), str(run.method.get("name")))
        attack = ("attack", str(run.settings.get("attack")))
        for name in (own, attack):
            if name in registry:
                yield from with_members(registry[name], registry)


def _registry() -> dict[tuple[str, str], MethodCard]:
    return {(card.kind, card.name): card for card in cards()}
