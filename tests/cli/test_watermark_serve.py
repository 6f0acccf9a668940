"""``assay watermark serve``: it listens, answers, and stops when told, and says nothing of keys."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assay.cli.main import main
from assay.cli.watermark.serve import VARIABLE, read_token
from assay.core.errors import SettingError

KEY = 660193847561029384
TOKEN = "quiet-river-0123456789"
MARK = ["--scheme", "philox", "--vocab-size", "500"]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    return file


@contextmanager
def serving(*words: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "assay", "watermark", "serve", "--port", "0", *words]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+:\d+", line)
            assert found, (line, process.stderr.read() if process.stderr and process.poll() is not None else "")
            yield process, found[0]
        finally:
            process.kill()


def ask(address: str, body: object = None, **headers: str) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, object] = json.load(answer)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_until_it_is_told_to_stop(tmp_path: Path, key_file: Path, number: signal.Signals) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with serving(*MARK, "--key-file", "key", "--token-file", "token", folder=tmp_path) as (process, url):
        assert ask(f"{url}/health") == {"status": "ok", "marks": 1}
        answer = ask(f"{url}/detect", {"ids": list(range(40))}, Authorization=f"Bearer {TOKEN}")
        assert answer["verdict"] == "not enough tokens"
        process.send_signal(number)
        out, log = process.communicate(timeout=20)
        assert process.returncode == 0, log
    assert "POST /detect 200" in log
    assert "Stopped." in log
    for secret in (str(KEY), f"{KEY:x}", TOKEN):
        assert secret not in out + log


def test_it_says_what_listening_to_others_means(tmp_path: Path, key_file: Path) -> None:
    with serving(*MARK, "--key-file", "key", "--host", "0.0.0.0", "--quiet", folder=tmp_path) as (process, url):
        port = url.rpartition(":")[2]
        assert ask(f"http://127.0.0.1:{port}/health")["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert "everyone who reaches 0.0.0.0" in log
    assert "--token-file" in log
    assert "GET" not in log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "65535"),
        (["--max-body", "1"], "body_bytes"),
        (["--token-file", "nowhere"], "token file"),
        (["--mark", "nowhere.json"], "mark file"),
        (["--read-timeout", "0"], "above 0"),
        (["--host", "192.0.2.1"], "Cannot listen"),
    ],
)
def test_what_cannot_be_used_is_named(
    key_file: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    mark = [] if "--mark" in words else MARK
    assert main(["watermark", "serve", *mark, "--key-file", str(key_file), "--port", "0", *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert str(KEY) not in shown.out + shown.err


def test_a_dry_run_checks_and_stops(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "serve", *MARK, "--key-file", str(key_file), "--dry-run"]) == 0
    assert capsys.readouterr().out == "1 mark ready: philox.\n"


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    for content in (b"", b"\n", b"\xff" * 20, b"a" * 5000):
        file.write_bytes(content)
        with pytest.raises(SettingError, match="no token"):
            read_token(str(file))
    file.write_text(f"{TOKEN}\n")
    assert read_token(str(file)) == TOKEN
