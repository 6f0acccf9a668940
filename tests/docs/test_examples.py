"""The guide tells the truth: its Python runs, its commands exist, and its cheap outputs are what is printed."""

from __future__ import annotations

import argparse
import importlib
import shlex
from pathlib import Path

import pytest

from assay.cli.main import VERBS, main
from assay.studies import load_claims, load_suite
from assay.studies.recipes import read_recipe
from docs.refresh import COLUMNS, PAGES, blocks, commands, examples, write_files
from tests.conftest import ROOT

DOCS = ROOT / "docs"
GUIDE = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in [*GUIDE, *ROOT.glob("*.md")]}
WITH_PYTHON = [name for name, text in TEXTS.items() if any(block.language == "python" for block in blocks(text))]
COMMANDS = [
    (name, command)
    for name, text in TEXTS.items()
    for block in blocks(text)
    if block.language == "console"
    for command in commands(block)
    if command.startswith("assay ")
]
CHEAP = [
    (name, example)
    for name, text in TEXTS.items()
    for example in examples(text)
    if len(example.commands) == 1
    and (
        example.commands[0].endswith("--help")
        or example.commands[0].startswith(("assay ls", "assay show", "assay cite trades"))
        or name == "docs/troubleshooting.md"
    )
]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder to be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", COLUMNS)
    return tmp_path


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_blocks_run(name: str, workplace: Path) -> None:
    """Every block of a page, in one namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(TEXTS[name]):
        if block.language == "python":
            line = TEXTS[name].count("\n", 0, block.start)
            exec(compile("\n" * line + block.body, name, "exec"), namespace)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_commands_can_be_read(name: str, command: str, workplace: Path) -> None:
    """Every flag that the guide shows exists."""
    words = shlex.split(command, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    if name == "docs/troubleshooting.md" or words[1] == "--help" or words[-1] == "--help":
        return
    verb = importlib.import_module(VERBS[words[1]][0])
    verb.parse(argparse.ArgumentParser(allow_abbrev=False), words[2:])


@pytest.mark.parametrize(("name", "example"), CHEAP)
def test_cheap_outputs_are_what_is_printed(
    name: str, example: object, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words, not spaces: help texts are wrapped differently by different versions of Python."""
    (command,) = example.commands
    main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    assert (printed.out + printed.err).split() == example.output.body.split(), (
        f"{name} shows another output of '{command}'; renew it with: make docs-outputs"
    )


def test_doctor_looks_at_what_the_guide_shows(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines; versions differ between machines."""
    shown = examples(TEXTS["docs/commands/doctor.md"])[0].output.body
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out

    def subjects(text: str) -> list[str]:
        return [line[:24].split("  ")[0] for line in text.splitlines()]

    assert subjects(printed) == subjects(shown)


def test_suites_and_claims_are_valid(workplace: Path) -> None:
    """Every YAML block can be used as it stands."""
    found = 0
    for text in TEXTS.values():
        write_files(text, workplace)
    for path in workplace.glob("*.yaml"):
        found += 1
        read = {"claims.yaml": load_claims, "recipe.yaml": read_recipe}.get(path.name, load_suite)
        assert read(path)
    assert found >= 3


def test_every_page_with_outputs_is_renewed() -> None:
    """A page that shows outputs is on the list of those that are made again."""
    shown = {name.removeprefix("docs/") for name, text in TEXTS.items() if examples(text)}
    assert shown == set(PAGES)


def test_every_output_is_filled_in() -> None:
    """No output was left out."""
    empty = [(name, item.commands) for name, text in TEXTS.items() for item in examples(text) if not item.output.body]
    assert not empty
