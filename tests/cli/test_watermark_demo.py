"""``assay watermark demo`` as a user runs it: a table, a report, a key that nobody else sees."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from assay.cli.main import main
from assay.studies.watermark_demo import KEY, MARK, learn
from assay.training import TrainSettings
from assay.training.language.causal_lm import CausalLM

TRAINING = TrainSettings(epochs=1, batch_size=8, optimizer="adamw", learning_rate=0.01)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("learned")
    recipe = CausalLM(vocab_size=300, context=96, width=16, layers=1, heads=1)
    learn(out, recipe=recipe, training=TRAINING, documents=16)
    return f"hf:{out / 'model'}"


@pytest.fixture
def words(model: str, tmp_path: Path) -> list[str]:
    short = ["--texts", "3", "--new-tokens", "60", "--delta", "8", "--fpr", "1e-3", "--no-progress"]
    return ["watermark", "demo", "--model", model, "--out", str(tmp_path / "out"), *short]


def test_one_command_shows_a_table_and_what_to_do_next(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    first = capsys.readouterr()
    for text in ("with the mark", "without the mark", "by people", "It is not the chance", "Report: "):
        assert text in first.out
    out = tmp_path / "out"
    key = (out / KEY).read_text().strip()
    assert (out / KEY).stat().st_mode & 0o777 == 0o600
    assert key not in first.out + first.err
    for file in out.rglob("*"):
        if file.is_file() and file.name != KEY:
            assert key.encode() not in file.read_bytes(), file
    assert main(words) == 0
    assert capsys.readouterr().out == first.out

    line = next(line for line in first.out.splitlines() if line.startswith("Detect it yourself: "))
    assert main(shlex.split(line.partition(": ")[2])[1:]) == 0
    assert capsys.readouterr().out.count("marked") >= 3


def test_a_given_key_stays_where_it_is(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine"
    file.write_text("77665544332211\n")
    file.chmod(0o600)
    assert main([*words, "--key-file", str(file), "--scheme", "gumbel"]) == 0
    assert not (tmp_path / "out" / KEY).exists()
    assert (tmp_path / "out" / MARK).exists()
    assert "77665544332211" not in "".join(capsys.readouterr())


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["watermark", "demo", "--dry-run", "--documents", "8", "--texts", "5", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "A small model on" in shown
    assert "10 texts of 200 tokens: 2,000 tokens written, 3,000 read." in shown
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scheme", "philx"], "philox"),
        (["--scheme", "ff-minhash_prf-4-True-1234567890123"], "ends with a key"),
        (["--key-file", "nowhere"], "no key file"),
        (["--documents", "5"], "Leave one out"),
        (["--new-tokens", "500"], "500"),
        (["--gamma", "1.5"], "below 1"),
    ],
)
def test_what_cannot_be_done_is_named(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *more]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "1234567890123" not in shown.out + shown.err
