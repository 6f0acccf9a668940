"""The walls of the house: which room may import which, and how long a file may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay
from assay.core.methods import CONCERNS

SOURCE = Path(str(assay.__file__)).parent
FILES = sorted(SOURCE.rglob("*.py"))
FLOORS = ["core", "tensors", "data", "subjects", "search", "training", "pools", "concern", "studies", "cli"]
HEAVY = {"torch", "numpy", "scipy", "rich", "pyarrow", "transformers", "matplotlib", "yaml", "sklearn"}
LONGEST_FILE = 500


def room_of(module: str) -> str:
    """``assay.core.runs`` -> ``core``; the top package itself has no room."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def floor_of(room: str) -> int:
    return FLOORS.index(room if room in FLOORS else "concern")


def module_of(path: Path) -> str:
    parts = ("assay", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[str]:
    """Absolute names of all modules a file imports, wherever in the file, types included."""
    package = ("assay", *path.relative_to(SOURCE).parent.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _at_import(tree) if only_at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            origin = ".".join(filter(None, [base, node.module]))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when the file is imported."""
    for node in tree.body:
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node


def rooms_imported(path: Path) -> set[str]:
    names = {name for name in imports(path) if name.split(".")[0] == "assay"}
    return {room_of(name) for name in names if (SOURCE / room_of(name)).is_dir()} - {""}


every_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])


@every_file
def test_imports_point_down(path: Path) -> None:
    room = room_of(module_of(path))
    if path.parent == SOURCE:
        return
    for other in rooms_imported(path) - {room}:
        if room == "report":
            assert other == "core", f"report imports {other}; it may import core alone"
        elif other == "report":
            assert room in ("studies", "cli"), f"{room} imports report"
        else:
            assert floor_of(other) < floor_of(room), f"{room} imports {other}, which is not below it"


def test_the_check_sees_what_it_should() -> None:
    assert rooms_imported(SOURCE / "studies" / "auditing.py") >= {"core", "report", "subjects", "data"}
    names = set(imports(SOURCE / "cli" / "ls.py"))
    assert {"assay.core.methods.cards", "assay.studies.suite.BUILT_IN"} <= names


@pytest.mark.parametrize("room", ["core", "data", "report", "cli"])
def test_rooms_without_torch(room: str) -> None:
    users = {path.name for path in (SOURCE / room).glob("*.py") if "torch" in {n.split(".")[0] for n in imports(path)}}
    assert users <= {"doctor.py", "common.py"} if room == "cli" else users == set()


@pytest.mark.parametrize(
    "path", [SOURCE / "__init__.py", SOURCE / "cli" / "main.py", *(SOURCE / c / "__init__.py" for c in CONCERNS)]
)
def test_what_every_command_imports_is_light(path: Path) -> None:
    assert HEAVY.isdisjoint(name.split(".")[0] for name in imports(path, only_at_import=True))


@every_file
def test_a_file_is_about_one_thing(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE, f"{path.name} has {lines} lines; it probably holds two things"


@every_file
def test_a_file_says_what_it_is(path: Path) -> None:
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "the module has no docstring"


UNSAFE = {"pickle.load", "pickle.loads", "eval", "exec", "yaml.unsafe_load", "yaml.full_load", "os.system"}
SAFE = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}


@every_file
def test_nothing_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            words = {ast.unparse(word) for word in node.keywords}
            assert called not in UNSAFE
            assert "shell=True" not in words
            assert SAFE.get(called) is None or SAFE[called] in words


@every_file
def test_nothing_is_left_to_do(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX)\b|pragma: no cover", path.read_text(encoding="utf-8"))
