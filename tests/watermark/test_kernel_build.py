from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.cli.main import main
from assay.core.errors import SettingError
from assay.watermark import kernel
from assay.watermark.kernel import backends, native

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/assay/watermark/kernel/csrc"


def test_the_build_knows_every_source() -> None:
    [extension] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    there = {str(path.relative_to(ROOT)) for path in SOURCES.iterdir()}
    assert {*extension["sources"], *extension["depends"]} == there
    assert extension["optional"]
    assert extension["name"] == f"assay.watermark.kernel.{native.NAME}"
    assert "-ffp-contract=off" in extension["extra-compile-args"]


def test_python_and_c_agree_on_the_arguments() -> None:
    header = (SOURCES / "kernel.h").read_text()
    assert int(re.search(r"ABI_VERSION (\d+)", header)[1]) == native.ABI_VERSION
    kinds = {"c_void_p": "*", "c_ubyte": "uint8_t", "c_int": "int32_t", "c_long": "int64_t", "c_uint": "uint32_t"}
    kinds |= {"c_ulong": "uint64_t", "c_float": "float", "c_double": "double"}
    declared = dict(re.findall(r"int32_t assay_(\w+)\(([^)]*)\);", header))
    assert declared.pop("abi") == "void"
    assert declared.keys() == native.SIGNATURES.keys()
    for name, arguments in declared.items():
        words = [" ".join(argument.split()) for argument in arguments.split(",")]
        wanted = [kinds[kind.__name__] for kind in native.SIGNATURES[name]]
        assert ["*" if "*" in word else word.split()[0] for word in words] == wanted, name


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_sources_have_no_warnings(tmp_path: Path) -> None:
    words = ["cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run([*words, *map(str, sorted(SOURCES.glob("*.c")))], check=True, timeout=60)


@pytest.mark.parametrize("path", sorted(SOURCES.iterdir()), ids=lambda path: path.name)
def test_a_source_is_about_one_thing(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 500
    assert max(map(len, lines)) <= 120


def test_the_environment_chooses_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_KERNEL", "numpy")
    assert kernel.backend() == "numpy"


def test_a_path_is_forced_for_a_while() -> None:
    before = kernel.backend()
    with kernel.using("numpy"):
        assert kernel.backend() == "numpy"
    assert kernel.backend() == before
    with pytest.raises(SettingError, match="'fortran' is not known"), kernel.using("fortran"):
        pass


@pytest.mark.parametrize("number", [0, -1, 257, 1.5, None])
def test_threads_that_cannot_be(number: int) -> None:
    with pytest.raises(SettingError, match="threads is"):
        kernel.set_threads(number)
    assert kernel.threads() == 1


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A kernel package in another folder, in which nothing was built."""
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    for cached in (native.load, native._open):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (native.load, native._open):
        cached.cache_clear()


def test_without_a_library_numpy_runs(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel.backend() == "numpy"
    assert kernel.problem() == "not built"
    with pytest.raises(SettingError, match="install a C compiler"), kernel.using("c"):
        pass
    assert main(["doctor", "--out", str(elsewhere)]) == 0
    assert "NumPy runs instead" in capsys.readouterr().out


def test_a_broken_library_is_not_used(elsewhere: Path) -> None:
    (elsewhere / f"{native.NAME}.so").write_bytes(b"not a library")
    assert kernel.backend() == "numpy"
    assert "cannot be loaded" in kernel.problem()


@pytest.mark.skipif(not shutil.which("cc") or sys.platform != "linux", reason="needs a C compiler on Linux")
def test_a_library_of_another_version_is_not_used(elsewhere: Path) -> None:
    source = elsewhere / "old.c"
    source.write_text("int assay_abi(void) { return 0; }\n")
    built = elsewhere / f"{native.NAME}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(built), str(source)], check=True, timeout=60)
    assert kernel.backend() == "numpy"
    assert "another version" in kernel.problem()


def test_parts_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_threads", 3)
    for rows in (0, 1, 2, 3, 10, 100):
        for least in (1, 7):
            parts: list[tuple[int, int]] = []
            backends.over_rows(lambda a, b, parts=parts: parts.append((a, b)), rows, least)
            covered = [row for a, b in sorted(parts) for row in range(a, b)]
            assert covered == list(range(rows))
            assert len(parts) <= 3


def test_an_error_in_a_part_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_threads", 2)

    def fails(start: int, stop: int) -> None:
        raise MemoryError(f"{start}")

    with pytest.raises(MemoryError):
        backends.over_rows(fails, 10)
