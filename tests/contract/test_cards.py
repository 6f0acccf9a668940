"""What every registered method keeps: a newcomer is tested the moment it is listed."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from assay.core.methods import CONCERNS, MethodCard, card, cards, settings_of
from assay.core.settings import as_dict, build, fields_of

CARDS = cards()
DOES = {
    "attack": "stages",
    "objective": "aims",
    "recipe": "step",
    "probe": "measure",
    "head": "preset",
    "inference": "score",
    "watermark": "build",
    "edit": "apply",
}
KINDS = set(DOES)


def name_of(item: MethodCard) -> str:
    return f"{item.kind}-{item.name}"


every_card = pytest.mark.parametrize("item", CARDS, ids=name_of)


def test_there_are_methods_of_every_kind() -> None:
    assert {item.kind for item in CARDS} == KINDS


def test_names_are_unique_within_their_kind() -> None:
    names = [name_of(item) for item in CARDS]
    assert len(names) == len(set(names))


def test_one_publication_has_one_entry() -> None:
    entries: dict[str, set[object]] = {}
    for item in CARDS:
        if item.citation:
            entries.setdefault(item.citation.key, set()).add(item.citation)
    assert {key: len(found) for key, found in entries.items() if len(found) > 1} == {}


@every_card
def test_the_card_read_from_the_file_is_the_one_python_makes(item: MethodCard) -> None:
    module = importlib.import_module(item.module)
    made = [value for value in vars(module).values() if isinstance(value, MethodCard) and value.name == item.name]
    assert made == [MethodCard(**{**vars(item), "module": ""})]
    assert made[0].settings in vars(module)


@every_card
def test_the_words_of_a_card(item: MethodCard) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", item.name)
    assert item.title
    assert not item.title.endswith(".")
    assert item.summary.endswith(".")
    assert "\n" not in item.summary
    assert len(re.findall(r"[.!?](\s|$)", item.summary)) == 1, "the summary is one sentence"
    assert item.version >= 1
    assert set(item.norms) <= {"linf", "l2", "l1"}
    if item.kind == "attack":
        assert item.norms
        assert item.mode in ("fixed", "minimum", "ensemble")
    assert bool(item.tasks) == (item.kind == "objective")
    assert set(item.tasks) <= {"classification", "segmentation", "depth", "embedding"}


@every_card
def test_the_citation_is_complete(item: MethodCard) -> None:
    cited = item.citation
    if cited is None:
        return
    assert re.fullmatch(r"[a-z0-9_-]+", cited.key)
    assert cited.title
    assert cited.authors
    assert cited.venue
    assert 1900 < cited.year < 2100
    assert cited.arxiv == "" or re.fullmatch(r"\d{4}\.\d{4,5}", cited.arxiv)
    assert cited.bibtex().count("{") == cited.bibtex().count("}")


@every_card
def test_the_file_says_what_it_does(item: MethodCard) -> None:
    text = Path(str(importlib.import_module(item.module).__file__)).read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert settings_of(item).__doc__


@every_card
def test_settings_have_defaults_help_and_a_plain_form(item: MethodCard) -> None:
    cls = settings_of(item)
    made = build(cls, {})
    assert build(cls, as_dict(made)) == made
    for field, _ in fields_of(cls):
        assert field.metadata.get("help"), f"{cls.__name__}.{field.name} has no help"


@every_card
def test_the_settings_do_what_their_kind_does(item: MethodCard) -> None:
    assert callable(getattr(settings_of(item), DOES[item.kind]))


@every_card
def test_a_method_is_found_by_name_and_kind(item: MethodCard) -> None:
    assert card(item.name, item.kind) == item


@pytest.mark.parametrize("concern", CONCERNS)
def test_every_file_with_a_card_is_listed(concern: str) -> None:
    package = importlib.import_module(f"assay.{concern}")
    folder = Path(str(package.__file__)).parent
    with_cards = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if re.search(r"^CARD\w* = MethodCard\(", path.read_text(), re.M)
    }
    assert with_cards == set(package.METHODS)
