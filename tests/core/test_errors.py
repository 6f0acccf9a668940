"""Errors: what a shell sees, and hints for misspelt names."""

from __future__ import annotations

import pytest

from assay.core import errors
from assay.core.errors import did_you_mean


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError, 2),
        (errors.SettingError, 2),
        (errors.DataError, 2),
        (errors.ModelError, 2),
        (errors.RunError, 2),
        (errors.Unsupported, 2),
        (errors.NotYetSupported, 2),
        (errors.Incomplete, 3),
        (errors.AssayError, 4),
    ],
)
def test_exit_codes_belong_to_the_class(error: type[errors.AssayError], code: int) -> None:
    assert error("a sentence").exit_code == code
    assert issubclass(error, errors.AssayError)


def test_bad_input_is_a_value_error_and_an_interruption_is_not() -> None:
    assert issubclass(errors.RunError, ValueError)
    assert not issubclass(errors.Incomplete, ValueError)


def test_a_missing_extra_names_the_command() -> None:
    error = errors.MissingExtra("transformers", "hf", "Loading hf: models")
    assert "pip install 'assay-ml[hf]'" in str(error)
    assert "'transformers'" in str(error)
    assert error.exit_code == 2


def test_hints() -> None:
    assert did_you_mean("squre", ["square", "fab"]) == " Did you mean 'square'?"
    assert did_you_mean("zzz", ("b", "a")) == " There are: a, b."
    assert did_you_mean("zzz", []) == ""
