"""Claims checked against runs that exist already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.claims import Claim, Verdict, check
from ..core.errors import RunError, SettingError
from ..core.runs import find_runs
from .reading import read_yaml_file
from .suite import parse_claims


def load_claims(path: str | Path) -> tuple[Claim, ...]:
    """Claims from a YAML file: a list of them, or any mapping with the key ``claims`` (a suite, say).

    Raises:
        SettingError: the file holds no claims, or one that cannot be read.
    """
    value = read_yaml_file(Path(path))
    if isinstance(value, dict):
        value = value.get("claims")
    claims = parse_claims(value, where=str(path))
    if not claims:
        raise SettingError(f"{path} holds no claims; write a list such as '- clean_accuracy >= 0.9'.")
    return claims


def check_runs(paths: Iterable[str | Path], claims: Sequence[Claim]) -> list[Verdict]:
    """Verdicts on ``claims`` from the runs in ``paths`` (run folders or whole studies).

    A claim that no run speaks to is ``not_run``, which never counts as passed.
    """
    given = [Path(path) for path in paths]
    runs = find_runs(given)
    if not runs:
        raise RunError(
            f"No runs were found in {', '.join(map(str, given))}. Name a run folder or the folder of an audit."
        )
    return check(claims, runs)
