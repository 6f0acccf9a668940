from __future__ import annotations

import io
import sys

import pytest

from assay.cli.output import byline, ends, figure, plain_table, printable, table
from assay.core.methods import Citation
from assay.core.probes import Metric


def cited(authors: str) -> Citation:
    return Citation(key="k", title="t", authors=authors, year=2020, venue="v")


@pytest.mark.parametrize(
    ("authors", "text"),
    [
        ("Croce, Francesco and Hein, Matthias", "Croce and Hein 2020"),
        ("Hongyang Zhang and Yaodong Yu and Jiantao Jiao", "Zhang et al. 2020"),
        ("Pearson, E. S.", "Pearson 2020"),
    ],
)
def test_bylines(authors: str, text: str) -> None:
    assert byline(cited(authors)) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.81251, "share", "0.813"),
        (None, "share", "-"),
        (float("nan"), "", "-"),
        (1.23456, "nats", "1.235 nats"),
        (3e-7, "", "3e-07"),
    ],
)
def test_figures(value: float | None, unit: str, text: str) -> None:
    assert figure(value, unit) == text


def test_ends_of_an_interval() -> None:
    metric = Metric(name="m", estimand="e", value=0.5, lo=0.25, hi=None, interval="i", n=3)
    assert ends(metric) == "0.250 .. -"


def test_columns_line_up() -> None:
    lines = plain_table("", ["name", "n"], [["a", "5"], ["longer", "12"]], right=[1]).splitlines()
    assert lines == ["name     n", "a        5", "longer  12"]


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[31mb\n") == "a [31mb "
    table("t", ["h"], [["\x1b]0;owned\x07"]])
    assert "\x1b" not in capsys.readouterr().out


def test_a_terminal_gets_a_drawn_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    table("Claims", ["verdict", "claim"], [["FAIL", "[bold]x >= 1"]])
    shown = terminal.getvalue()
    assert "[bold]x >= 1" in shown
    assert "│" in shown or "┃" in shown
