"""Flags made from a settings class: one for every field, checked by the class itself."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, TypeVar

from ..core.settings import allowed, build, fields_of
from .show import value_text

T = TypeVar("T")


def add_settings_flags(
    parser: argparse.ArgumentParser, cls: type, *, title: str, base: Mapping[str, Any] | None = None
) -> None:
    """One ``--name VALUE`` for every field of ``cls``, with its help, range and default, which ``base`` may replace."""
    group = parser.add_argument_group(title)
    for field, _ in fields_of(cls):
        usual = (base or {}).get(field.name, field.default)
        default = "required" if usual is MISSING else f"default: {value_text(usual)}"
        facts = "; ".join(filter(None, [allowed(field), default]))
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            dest=destination(cls, field.name),
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{field.metadata.get('help', '')} ({facts})".replace("%", "%%"),
        )


def settings_from(arguments: argparse.Namespace, cls: type[T], base: Mapping[str, Any] | None = None) -> T:
    """The settings the flags ask for; a wrong value is a SettingError that names what is allowed.

    Args:
        arguments: what the flags of :func:`add_settings_flags` left behind.
        cls: the settings class.
        base: values where no flag was given, in the place of the defaults.
    """
    given = {field.name: destination(cls, field.name) for field, _ in fields_of(cls)}
    values = {name: getattr(arguments, place) for name, place in given.items() if hasattr(arguments, place)}
    return build(cls, {**(base or {}), **values})


def destination(cls: type, name: str) -> str:
    """Where the value of a field's flag lies in the arguments."""
    return f"{cls.__name__}.{name}"
