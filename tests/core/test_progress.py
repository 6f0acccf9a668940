"""Progress is shown on a terminal and silent elsewhere."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from assay.core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    with progress, progress.task("APGD-CE [bold]", total=512) as task:
        for _ in range(64):
            task.advance(8)
    assert task.completed == 512


def test_nothing_is_printed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    work(Progress())
    work(Progress(enabled=False, verbose=True))
    assert capsys.readouterr() == ("", "")


def test_one_line_a_finished_stage_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    work(Progress(verbose=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("APGD-CE [bold]: 512 in ")
    assert err.count("\n") == 1


def test_a_terminal_shows_description_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    work(Progress())
    text = terminal.getvalue()
    assert "APGD-CE [bold]" in text
    assert "512/512" in text
    assert "elapsed" in text
    assert "left" in text


def test_an_interrupted_stage_is_not_called_finished(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with Progress(verbose=True) as progress, progress.task("stage", total=9) as task:
            task.advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == ""


def test_stages_work_without_a_surrounding_block_and_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    task = Progress(verbose=True).task("reading")
    task.advance()
    task.done()
    task.done()
    assert capsys.readouterr().err.count("reading: 1 in") == 1


def test_rich_is_loaded_only_when_there_is_something_to_show() -> None:
    script = (
        "import sys\n"
        "from assay.core.progress import Progress\n"
        "with Progress() as progress:\n"
        "    progress.task('a', 1).done()\n"
        "print('rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
