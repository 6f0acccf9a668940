"""Flags made from a settings class: one for every field, checked by the class itself."""

from __future__ import annotations

import argparse
from dataclasses import MISSING
from typing import TypeVar

from ..core.settings import allowed, build, fields_of
from .show import value_text

T = TypeVar("T")


def add_settings_flags(parser: argparse.ArgumentParser, cls: type, *, title: str) -> None:
    """One ``--name VALUE`` for every field of ``cls``, with its help, range and default."""
    group = parser.add_argument_group(title)
    for field, _ in fields_of(cls):
        default = "required" if field.default is MISSING else f"default: {value_text(field.default)}"
        facts = "; ".join(filter(None, [allowed(field), default]))
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            dest=_destination(cls, field.name),
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{field.metadata.get('help', '')} ({facts})".replace("%", "%%"),
        )


def settings_from(arguments: argparse.Namespace, cls: type[T]) -> T:
    """The settings the flags ask for; a wrong value is a SettingError that names what is allowed."""
    given = {field.name: _destination(cls, field.name) for field, _ in fields_of(cls)}
    values = {name: getattr(arguments, place) for name, place in given.items() if hasattr(arguments, place)}
    return build(cls, values)


def _destination(cls: type, name: str) -> str:
    return f"{cls.__name__}.{name}"
