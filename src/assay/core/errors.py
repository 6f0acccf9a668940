"""The errors Assay raises: every one names the cause, the value, what is allowed and the remedy.

The exit code of the command line is a property of the error class, so that a
failure means the same thing in a shell, in CI and in Python.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_CLAIM_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INCOMPLETE = 3
EXIT_INTERNAL = 4


class AssayError(Exception):
    """Base class. ``str(error)`` is the sentence a user reads; ``exit_code`` what a shell sees."""

    exit_code = EXIT_INTERNAL


class InputError(AssayError, ValueError):
    """What the caller gave cannot be used: settings, data, a model, a path."""

    exit_code = EXIT_BAD_INPUT


class SettingError(InputError):
    """A setting has a value that is not allowed."""


class DataError(InputError):
    """Data cannot be read, or do not mean what the caller says they mean."""


class ModelError(InputError):
    """A model cannot be loaded, or does not behave as its task requires."""


class RunError(InputError):
    """A run directory is missing, damaged, or belongs to other settings."""


class Unsupported(InputError):
    """Cannot work in principle; the message names what to use instead."""


class NotYetSupported(InputError):
    """Could work, but is not built; the message says what works today."""


class MissingExtra(InputError):
    """An optional dependency is not installed; the message names the extra."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'assay-ml[{extra}]'"
        )


class Incomplete(AssayError):
    """Work stopped before its end and can be taken up again by the same command."""

    exit_code = EXIT_INCOMPLETE


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ``" Did you mean 'apgd'?"``, or the list of what there is.

    >>> did_you_mean("agpd", ["apgd", "fab"])
    " Did you mean 'apgd'?"
    >>> did_you_mean("zzz", ["apgd", "fab"])
    ' There are: apgd, fab.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There are: {', '.join(names)}." if names else ""
