from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from assay import __version__
from assay.cli import main as command
from assay.cli.main import VERBS, main

HEAVY = ("torch", "numpy", "rich", "scipy", "pyarrow", "yaml", "matplotlib")


def imported_by(*words: str) -> set[str]:
    """Which heavy packages ``assay WORDS`` imports, in a fresh process."""
    code = (
        "import sys; from assay.cli.main import main; code = main(sys.argv[1:]); "
        f"print('IMPORTED', *(name for name in {HEAVY!r} if name in sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("--help") == set()


@pytest.mark.parametrize("words", [["ls"], ["ls", "attack"], ["train", "--help"], ["audit", "--help"]])
def test_listing_does_not_import_torch(words: list[str]) -> None:
    assert "torch" not in imported_by(*words)


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert all(verb in shown for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"assay {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: assay {verb}")
    assert "--debug" in shown


def test_an_unknown_verb_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adit"]) == 2
    assert "Did you mean 'audit'" in capsys.readouterr().err


def test_an_unknown_flag_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--sweet"]) == 2
    assert "--sweet" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 3), (ZeroDivisionError("odd"), 4)])
def test_what_stops_a_verb_becomes_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(arguments: Any) -> int:
        raise error

    monkeypatch.setattr("assay.cli.ls.run", fails)
    assert main(["ls"]) == code
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert (
        ("same command" in shown)
        if code == 3
        else ("unexpected ZeroDivisionError: odd" in shown and "--debug" in shown)
    )


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(arguments: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("assay.cli.ls.run", fails)
    assert main(["ls", "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ASSAY_DEBUG", "1")
    assert main(["ls"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m assay show calibration | head -1", shell=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("calibration")
    assert done.stderr == ""


def test_the_verbs_are_a_literal_table() -> None:
    assert all(module == f"assay.cli.{verb}" for verb, (module, _) in command.VERBS.items())


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "on_exit"), reason="the C library has no on_exit")
def test_a_process_ends_with_the_exit_code_whatever_libraries_do_then() -> None:
    """A native library that aborts late must not change the code; Python's exit functions still run."""
    script = (
        "import atexit, ctypes, os, sys\n"
        "late = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)(lambda code, given: os.abort())\n"
        "ctypes.CDLL(None).on_exit(late, None)\n"
        "atexit.register(print, 'bye')\n"
        "sys.argv = ['assay', 'evadee']\n"
        "from assay.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "bye\n")
