"""Attacks by name, and from the short form in which the command line and suites write them."""

from __future__ import annotations

from typing import Any, Protocol

from ...core.errors import SettingError, did_you_mean
from ...core.methods import cards, settings_of
from ...core.settings import as_dict, build, fields_of
from ..signals import Answers, Scored


class Attack(Protocol):
    """Settings of an attack."""

    def score(self, answers: Answers) -> Scored:
        """One score a record; larger means more likely a member."""
        ...


def names() -> list[str]:
    """The names of all attacks, in the order in which they are listed."""
    return [card.name for card in cards("inference", "membership")]


def parse(text: str) -> tuple[str, Attack]:
    """An attack from its short form.

    Args:
        text: a name from ``assay ls inference``, alone or with settings: ``lira:mode=offline;sided=two``.

    Returns:
        Name and settings.

    Raises:
        SettingError: the name or a setting is unknown, or a value is not allowed.

    >>> name, attack = parse("lira:mode=offline;sided=two")
    >>> name, attack.mode, attack.sided, attack.variance
    ('lira', 'offline', 'two', 'residual')
    """
    name, _, rest = text.strip().partition(":")
    known = {card.name: card for card in cards("inference", "membership")}
    if name not in known:
        raise SettingError(f"There is no attack on membership named {name!r}.{did_you_mean(name, known)}")
    kind: Any = settings_of(known[name])
    fields = [field.name for field, _ in fields_of(kind)]
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(";"))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.replace("-", "_")
        if not equals:
            raise SettingError(f"{part!r} in {text!r} has no value; settings are written name=value, parted by ';'.")
        if key not in fields:
            there = did_you_mean(key, fields) or " It has no settings."
            raise SettingError(f"The attack {name!r} has no setting {key!r}.{there}")
        if key in given:
            raise SettingError(f"{text!r} gives {key!r} twice; give it once.")
        given[key] = value
    attack: Attack = build(kind, given)
    return name, attack


def label(name: str, attack: Attack) -> str:
    """The short form of an attack: its name, and the settings that differ from the defaults.

    >>> label(*parse("lira:mode=offline;variance=residual"))
    'lira:mode=offline'
    """
    defaults = as_dict(type(attack)())
    unusual = [f"{key}={_text(value)}" for key, value in as_dict(attack).items() if value != defaults[key]]
    return f"{name}:{';'.join(unusual)}" if unusual else name


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
