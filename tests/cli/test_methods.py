from __future__ import annotations

from pathlib import Path

import pytest

from assay.cli.main import main
from assay.cli.show import value_text
from assay.core.methods import cards


def test_ls_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{card.name} " in shown for card in cards())
    assert "\nquick " in shown


def test_ls_of_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "recipe"]) == 0
    shown = capsys.readouterr().out
    assert "trades" in shown
    assert "calibration" not in shown
    assert main(["ls", "recipes"]) == 2


@pytest.mark.parametrize("name", sorted({card.name for card in cards()}))
def test_show_explains_every_method(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    shown = capsys.readouterr().out
    for card in cards():
        if card.name == name:
            assert card.title in shown
            assert card.citation is None or card.citation.key in shown


def test_show_tells_equation_defaults_and_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "calibration"])
    shown = capsys.readouterr().out
    assert "ECE = Σ_b" in shown
    assert "one of equal-mass, equal-width" in shown
    assert "1706.04599" in shown


def test_show_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "calibratoin"]) == 2
    assert "Did you mean 'calibration'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((8 / 255, 0.5), "[8/255, 0.5]"),
        (None, "none"),
        (True, "true"),
        (5, "5"),
        (0.05, "0.05"),
        ("x", "x"),
        (6.0, "6"),
    ],
)
def test_values_are_written_as_in_a_suite(value: object, text: str) -> None:
    assert value_text(value) == text


def test_cite_names_each_source_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", "calibration", "trades", "calibration"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("@") == 2
    assert "guo2017calibration" in shown


def test_cite_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["cite", "calibratoin"]) == 2
    assert main(["cite", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
