"""Method cards are read as literals, without running the file they stand in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import assay
from assay.core import methods
from assay.core.errors import InputError
from assay.core.methods import Citation, card, cards, settings_of

FILE = """
from assay.core.methods import Citation, MethodCard

PAPER = Citation(key="madry2018", title="Towards", authors="Madry and others", year=2018, venue="ICLR")
CARD = MethodCard(
    name="pgd", kind="attack", title="PGD", summary="Steps.", settings="PGD", citation=PAPER, norms=("linf", "l2")
)
SECOND = MethodCard(
    name="noise", kind="probe", title="Noise", summary="Noise.", settings="PGD",
    citation=Citation(key="b", title="T", authors="A", year=2000, venue="V"), version=3,
)
OTHER = sorted([3, 1])


class PGD:
    pass
"""


@pytest.fixture
def concern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A concern with one file, beside the real ones."""
    folder = tmp_path / "pretend"
    folder.mkdir()
    (folder / "__init__.py").write_text('METHODS = ("pgd",)\n')
    (folder / "pgd.py").write_text(FILE)
    monkeypatch.setattr(assay, "__path__", [*assay.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "CONCERNS", ("pretend", "absent"))
    yield folder
    for name in ("assay.pretend", "assay.pretend.pgd"):
        sys.modules.pop(name, None)


def test_cards_are_listed_in_order_without_running_the_file(concern: Path) -> None:
    (concern / "pgd.py").write_text(FILE + "\nraise RuntimeError('was run')\n")
    assert [item.name for item in cards()] == ["pgd", "noise"]
    assert [item.name for item in cards("probe")] == ["noise"]
    assert "assay.pretend.pgd" not in sys.modules


def test_a_card_has_its_citation_and_place(concern: Path) -> None:
    found = card("pgd")
    assert found.citation is not None
    assert (found.citation.key, found.norms, found.module) == ("madry2018", ("linf", "l2"), "assay.pretend.pgd")
    noise = card("noise", "probe")
    assert noise.citation is not None
    assert (noise.citation.year, noise.version) == (2000, 3)
    assert settings_of(found).__name__ == "PGD"


def test_an_unknown_method_names_the_nearest(concern: Path) -> None:
    with pytest.raises(InputError, match=r"no method named 'pdg'.*Did you mean 'pgd'"):
        card("pdg")
    with pytest.raises(InputError, match=r"no probe named 'pgd'.*There are: noise"):
        card("pgd", "probe")


def test_bibliography_entries() -> None:
    paper = Citation(key="a2020", title="On {X}", authors="A and B", year=2020, venue="V", arxiv="2001.00001")
    lines = paper.bibtex().splitlines()
    assert lines[0] == "@inproceedings{a2020,"
    assert "  title = {On {X}}," in lines
    assert "  eprint = {2001.00001}," in lines
    assert lines[-1] == "}"
    assert "eprint" not in Citation(key="a", title="T", authors="A", year=1, venue="V").bibtex()
