"""Settings check themselves and say what is allowed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.core.settings import allowed, as_dict, build, coerce, fields_of, number, option, settings


@settings
class Attack:
    steps: int = option(default=20, help="gradient steps", at_least=1, at_most=1000)
    eps: tuple[float, ...] = option(default=(8 / 255,), help="budgets", above=0)
    norm: str = option(default="linf", choices=("linf", "l2", "l1"))
    step_size: float | None = option(default=None, above=0, below=10)
    restarts: bool = option(default=False)
    name: str | None = option(default=None)


@settings
class Needy:
    data: str = option(help="where the data lie")


@settings
class Ordered:
    low: float = option(default=0.0)
    high: float = option(default=1.0)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise SettingError(f"low is {self.low} and high is {self.high}; low must not be larger.")


def test_defaults_and_text_become_values() -> None:
    assert Attack().steps == 20
    found = build(Attack, {"steps": "7", "eps": "2/255, 8/255", "step-size": "1/2", "restarts": "yes"})
    assert found == Attack(steps=7, eps=(2 / 255, 8 / 255), step_size=0.5, restarts=True)
    assert build(Attack, {"step_size": "none", "name": "none"}) == Attack(step_size=None, name="none")
    assert build(Attack, {"eps": 0.5}).eps == (0.5,)


def test_settings_cannot_be_changed_or_given_by_position() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Attack().steps = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Attack(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({"steps": 0}, r"Attack\.steps is 0; allowed: at least 1 and at most 1000 \(gradient steps\)"),
        ({"steps": 1001}, "at most 1000"),
        ({"steps": 2.5}, "a whole number is needed"),
        ({"steps": True}, "a number is needed"),
        ({"steps": None}, r"Attack\.steps is None"),
        ({"steps": math.inf}, "a whole number is needed"),
        ({"eps": [0.1, 0.0]}, r"Attack\.eps is 0\.0; allowed: above 0"),
        ({"eps": ["x"]}, "a number is needed, such as 0.03 or 8/255"),
        ({"eps": {"a": 1}}, "a list is needed"),
        ({"eps": "1/0"}, "a number is needed"),
        ({"norm": "linff"}, "one of linf, l2, l1.*Did you mean 'linf'"),
        ({"norm": 2}, "text is needed"),
        ({"step_size": 10}, "below 10"),
        ({"step_size": "nan"}, "NaN"),
        ({"restarts": "maybe"}, "true or false"),
        ({"step": 3}, "no setting 'step'.*Did you mean 'steps'"),
    ],
)
def test_values_that_are_not_allowed(given_values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build(Attack, given_values)


def test_missing_settings_are_named_with_their_place() -> None:
    with pytest.raises(SettingError, match=r"needs the setting 'data' in suite\.yaml: where the data lie"):
        build(Needy, {}, where="suite.yaml")
    with pytest.raises(SettingError, match="no setting 'dta' in suite"):
        build(Needy, {"dta": 1}, where="suite")


def test_a_class_may_check_several_fields_together() -> None:
    assert Ordered(low="1/4", high=0.5).low == 0.25  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="low must not be larger"):
        Ordered(low=2)


@given(st.integers(-10_000, 10_000), st.integers(1, 10_000))
def test_fractions_are_exact(numerator: int, denominator: int) -> None:
    assert number(f"{numerator} / {denominator}") == float(Fraction(numerator, denominator))


@given(st.text(max_size=12) | st.none() | st.booleans() | st.lists(st.integers(), max_size=2))
def test_anything_is_a_number_or_a_clear_error(value: Any) -> None:
    with contextlib.suppress(SettingError):
        assert not math.isnan(number(value, name="eps"))


@given(st.integers(-(2**80), 2**80))
def test_whole_numbers_stay_exact(value: int) -> None:
    assert coerce(value, int, name="seed") == value


def test_settings_as_a_record_and_their_help() -> None:
    assert as_dict(Attack())["eps"] == [8 / 255]
    by_name = {field.name: (allowed(field), kind) for field, kind in fields_of(Attack)}
    assert by_name["steps"] == ("at least 1 and at most 1000", int)
    assert by_name["norm"][0] == "one of linf, l2, l1"
    assert by_name["restarts"] == ("", bool)
