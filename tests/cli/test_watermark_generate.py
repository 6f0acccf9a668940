"""``assay watermark generate``: marked text that ``detect`` finds, whole runs and stopped ones."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from assay.cli.main import main
from assay.cli.watermark import generate as command
from assay.watermark.keys import VARIABLE, write_key

from ..watermark.tiny import save_tokenizer
from .watermarks import KEY, lines, records

PROMPTS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "the water"},
    {"id": "b", "prompt": "people of the day"},
    {"id": "again", "prompt": "the water"},
    {"id": "empty", "prompt": ""},
    {"id": "long", "prompt": "water " * 200},
    {"id": 7, "prompt": "after all"},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=410, n_positions=128, n_embd=16, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder / "model")
    save_tokenizer(folder / "model")
    write_key(folder / "key", KEY)
    lines(folder / "prompts.jsonl", PROMPTS)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


MODEL = ["--model", "hf:model", "--new-tokens", "60"]
KEYED = ["--key-file", "key", "--delta", "4"]


def generate(*words: str) -> int:
    return main(["watermark", "generate", *words])


def test_marked_text_is_detected_with_the_files_that_were_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*MODEL, "--new-key", "mine", "--mark-out", "mark.json", "--delta", "4", "prompts.jsonl"]
    assert generate(*words, "--out", "o.jsonl") == 2
    shown = capsys.readouterr()
    assert "A new key is in 'mine'" in shown.err
    assert "prompts.jsonl, line 5: this prompt has" in shown.err
    assert "5 texts in o.jsonl. 1 prompt could not be used." in shown.err
    found = records(place / "o.jsonl")
    assert [record.get("tokens") for record in found] == [60, 60, 60, 60, None, 60]
    assert found[0]["text"] != found[2]["text"], "a prompt that comes twice has two texts"
    assert found[5]["id"] == "7"
    key = (place / "mine").read_text().strip()
    assert stat.S_IMODE((place / "mine").stat().st_mode) == 0o600
    for text in (shown.out, shown.err, (place / "o.jsonl").read_text(), (place / "mark.json").read_text()):
        assert key not in text
    lines(place / "good.jsonl", [record for record in found if "error" not in record])
    mark = ["--mark", "mark.json", "--key-file", "mine", "--fail-if", "unmarked"]
    assert main(["watermark", "detect", *mark, "--ids", "good.jsonl"]) == 0
    assert main(["watermark", "detect", *mark, "--tokenizer", "hf:model", "good.jsonl", "--fpr", "0.5"]) in (0, 1)
    assert "not the same" not in capsys.readouterr().err
    save_tokenizer(place / "other", size=380)
    main(["watermark", "detect", *mark, "--tokenizer", "hf:other", "good.jsonl"])
    assert "'other' is not the same" in capsys.readouterr().err


def test_a_stopped_command_goes_on_and_batches_change_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*MODEL, *KEYED, "prompts.jsonl", "--out", "o.jsonl", "--mark-out", "m.json"]
    assert generate(*words) == 2
    whole = (place / "o.jsonl").read_bytes()
    (place / "o.jsonl").unlink()
    write = command._Writer._write
    calls: list[int] = []

    def stopping(self: Any, waiting: Any) -> None:
        calls.append(len(waiting))
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(self, waiting)

    monkeypatch.setattr(command._Writer, "_write", stopping)
    assert generate(*words, "--batch-size", "1") == 3
    assert (place / "o.jsonl").read_bytes().count(b"\n") == 2
    with open(place / "o.jsonl", "ab") as file:
        file.write(b'{"source": "pro')
    assert generate(*words, "--batch-size", "4") == 2
    assert (place / "o.jsonl").read_bytes() == whole
    assert calls == [1, 1, 1, 2, 1]
    capsys.readouterr()
    assert generate(*words, "--seed", "1") == 2
    assert "another command" in capsys.readouterr().err
    lines(place / "prompts.jsonl", PROMPTS[:2])
    assert generate(*words) == 2
    assert "more texts than there are prompts" in capsys.readouterr().err


def test_prompts_on_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *MODEL,
        "--prompt",
        "the \x1b[31mwater",
        "--prompt",
        "one day",
        "--new-tokens",
        "8",
        "--decoding",
        "greedy",
    ]
    assert generate(*words, *KEYED) == 0
    marked = capsys.readouterr()
    assert marked.out.startswith("--- prompt 1\nthe ⟨U+001B⟩[31mwater")
    assert "--mark-out FILE" in marked.err
    assert generate(*words, "--unmarked") == 0
    plain = capsys.readouterr()
    assert plain.out != marked.out
    assert plain.out.count("--- prompt") == 2


def test_prompts_as_ids_and_the_end_of_texts(place: Path) -> None:
    lines(place / "ids.jsonl", [{"ids": [5, 6]}, {"ids": []}, {"ids": [5, 410]}])
    assert generate(*MODEL, *KEYED, "--ids", "ids.jsonl", "--out", "o.jsonl", "--until-end") == 2
    good, empty, far = records(place / "o.jsonl")
    assert good["prompt_ids"] == [5, 6]
    assert 0 not in good["ids"]
    assert "no ids" in empty["error"]
    assert "outside the vocabulary" in far["error"]


def test_another_mark_is_not_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*MODEL, "--key-file", "key", "--prompt", "x", "--new-tokens", "2", "--mark-out", "mark.json"]
    assert generate(*words) == 0
    before = (place / "mark.json").read_bytes()
    assert generate(*words, "--gamma", "0.5") == 2
    assert "another mark (gamma 0.25 there, 0.5 here)" in capsys.readouterr().err
    assert (place / "mark.json").read_bytes() == before
    again = [*MODEL, "--new-key", "key", "--prompt", "x", "--new-tokens", "2", "--mark", "mark.json"]
    assert generate(*again) == 0
    assert "is there, and its key is used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "nothing to continue"),
        (["--prompt", "x", "--ids"], "Leave one out"),
        (["--prompt", "x", "--unmarked", "--key-file", "key"], "contradict"),
        (["--prompt", "x", "--new-key", "k", "--public-key"], "beside another key"),
        (["--prompt", "x", "--key-file", "key", "--key-file", "key"], "given twice"),
        (["--prompt", "x", "--key-file", "none"], "no key file"),
        (["--prompt", "x"], "No key is given"),
        (["none.jsonl", "--key-file", "key"], "no file or folder"),
        (["--prompt", "x", "--key-file", "key", "--vocab-size", "400"], "the model's logits have 410"),
        (
            ["--prompt", "x", "--key-file", "key", "--temperature", "0.5", "--decoding", "greedy"],
            "only where tokens are",
        ),
        (["--prompt", "x", "--key-file", "key", "--top-k", "-1"], "whole number"),
        (["--prompt", "x", "--key-file", "key", "--device", "tpu"], "device"),
    ],
)
def test_mistakes(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    assert generate(*MODEL, *words) == 2
    shown = capsys.readouterr().err
    assert why in shown
    assert "Traceback" not in shown
