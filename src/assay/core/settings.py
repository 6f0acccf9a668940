"""Settings: frozen keyword-only dataclasses that check themselves.

    @settings
    class PGD:
        steps: int = option(default=20, help="gradient steps", at_least=1)
        step_size: float | None = option(default=None, help="default: 2.5 * eps / steps", above=0)

Fractions such as ``"8/255"`` are accepted wherever a float is; the command
line derives its flags, and the record its resolved settings, from the fields.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

from .errors import SettingError, did_you_mean

T = TypeVar("T")


def option(
    *,
    default: Any = dataclasses.MISSING,
    help: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    unit: str = "",
) -> Any:
    """A settings field: its default, one line of help, and what is allowed."""
    metadata = {
        "help": help,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
        "choices": tuple(choices) if choices is not None else None,
        "unit": unit,
    }
    if isinstance(default, list):
        default = tuple(default)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, dataclasses.field))
def settings(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only dataclass whose fields are coerced and checked."""
    extra_check = cls.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        for field, kind in _fields(type(self)):
            value = coerce(getattr(self, field.name), kind, name=_label(type(self), field))
            _check_range(type(self), field, value)
            object.__setattr__(self, field.name, value)
        if extra_check is not None:
            extra_check(self)

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Make settings from a mapping (YAML, command line); unknown names are an error with a hint.

    Names may be written with ``-`` or ``_``.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = {str(key).replace("-", "_"): value for key, value in values.items()}
    place = f" in {where}" if where else ""
    for key in given:
        if key not in known:
            raise SettingError(f"{cls.__name__} has no setting {key!r}{place}.{did_you_mean(key, known)}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.name not in given:
            raise SettingError(
                f"{cls.__name__} needs the setting {field.name!r}{place}: {field.metadata.get('help', '')}"
            )
    return cls(**given)


def as_dict(value: Any) -> dict[str, Any]:
    """Settings as plain values for a record (tuples become lists)."""
    return {key: list(item) if isinstance(item, tuple) else item for key, item in dataclasses.asdict(value).items()}


def number(value: Any, *, name: str = "value") -> float:
    """A float from a number or a fraction written as text.

    >>> number("8/255") == 8 / 255, number("0.5"), number(3)
    (True, 0.5, 3.0)
    """
    if isinstance(value, bool):
        raise SettingError(f"{name} is {value!r}; a number is needed, such as 0.03 or 8/255.")
    try:
        above, slash, below = value.partition("/") if isinstance(value, str) else (value, "", 1)
        result = float(above) / float(below) if slash else float(above)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise SettingError(f"{name} is {value!r}; a number is needed, such as 0.03 or 8/255.") from None
    if math.isnan(result):
        raise SettingError(f"{name} is not a number (NaN); a number is needed, such as 0.03 or 8/255.")
    return result


def coerce(value: Any, kind: Any, *, name: str) -> Any:
    """Turn ``value`` into ``kind`` (int, float, bool, str, tuple[...], X | None), or say why not."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        if value == "none" and type(None) in arguments and str not in arguments:
            return None
        failures = []
        for alternative in (a for a in arguments if a is not type(None)):
            try:
                return coerce(value, alternative, name=name)
            except SettingError as error:
                failures.append(error)
        raise failures[0]
    if origin in (tuple, list):
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, (int, float)) and not isinstance(items, bool):
            items = [items]
        if not isinstance(items, Sequence):
            raise SettingError(f"{name} is {value!r}; a list is needed, such as [1, 2] or 1,2.")
        return tuple(coerce(item, arguments[0] if arguments else Any, name=name) for item in items)
    if kind is float:
        return number(value, name=name)
    if kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "yes", "1", "false", "no", "0"):
            return value.lower() in ("true", "yes", "1")
        raise SettingError(f"{name} is {value!r}; true or false is needed.")
    if kind is int:
        whole = number(value, name=name)
        if not whole.is_integer():
            raise SettingError(f"{name} is {value!r}; a whole number is needed.")
        return int(whole) if not isinstance(value, int) else value
    if kind is str:
        if not isinstance(value, str):
            raise SettingError(f"{name} is {value!r}; text is needed.")
        return value
    return value


def allowed(field: dataclasses.Field[Any]) -> str:
    """What a field allows, in words: ``"at least 1"``, ``"one of linf, l2"``, or ``""``."""
    rule = field.metadata
    if rule.get("choices"):
        return "one of " + ", ".join(str(choice) for choice in rule["choices"])
    words = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
    return " and ".join(f"{word} {rule[key]:g}" for key, word in words.items() if rule.get(key) is not None)


def fields_of(cls: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a settings class with their types, for help texts and flags."""
    return list(_fields(cls))


def _fields(cls: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(cls)
    return [(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _label(cls: type, field: dataclasses.Field[Any]) -> str:
    return f"{cls.__name__}.{field.name}"


def _check_range(cls: type, field: dataclasses.Field[Any], value: Any) -> None:
    rule = field.metadata
    if value is None or not rule:
        return
    for item in value if isinstance(value, tuple) else (value,):
        wrong = (
            (rule.get("choices") is not None and item not in rule["choices"])
            or (rule.get("at_least") is not None and item < rule["at_least"])
            or (rule.get("above") is not None and item <= rule["above"])
            or (rule.get("at_most") is not None and item > rule["at_most"])
            or (rule.get("below") is not None and item >= rule["below"])
        )
        if wrong:
            hint = did_you_mean(item, rule["choices"]) if rule.get("choices") and isinstance(item, str) else ""
            hint = hint if "Did you mean" in hint else ""
            purpose = f" ({rule['help']})" if rule.get("help") else ""
            raise SettingError(f"{_label(cls, field)} is {item!r}; allowed: {allowed(field)}{purpose}.{hint}")
