"""``assay watermark detect`` as its user meets it."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.cli.main import main
from assay.watermark import Watermark
from assay.watermark.keys import VARIABLE

from . import watermarks
from .watermarks import KEY, MARK, TEXT, V, lines, records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watermarks.make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def detect(*words: str) -> int:
    return main(["watermark", "detect", *words])


def test_ids_need_no_tokenizer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(*MARK, "--ids", "ids.jsonl") == 0
    shown = capsys.readouterr()
    assert re.search(r"^m\s+150\s+\d+/146 .* marked$", shown.out, re.MULTILINE)
    assert shown.out.count("not marked\n") == 3
    assert "4 texts: 1 marked, 3 not marked, 0 not enough tokens.\n" in shown.out
    assert shown.err == ""


def test_texts_and_the_part_that_is_marked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(*TEXT, "texts.jsonl", "essay.txt", "--windows", "--out", "found.jsonl") == 0
    found = {record["id"]: record for record in records(place / "found.jsonl")}
    verdicts = {name: record["verdict"] for name, record in found.items()}
    assert verdicts == {
        "marked": "marked",
        "plain": "not marked",
        "short": "not enough tokens",
        "essay": "marked",
        "essay.txt": "marked",
    }
    assert found["short"]["tokens_needed"] > 20
    essay, passage = (place / "essay.txt").read_text(), (place / "passage.txt").read_text()
    (span,) = found["essay"]["spans"]
    begin, end = span["characters"]
    assert abs(begin - essay.index(passage)) < 60
    assert abs(end - essay.index(passage) - len(passage)) < 60
    assert found["essay.txt"]["spans"] == found["essay"]["spans"]
    assert {"p_value", "log10_p", "z", "green", "scored", "verdict", "spans"} <= set(found["plain"])
    assert capsys.readouterr().out.startswith("5 texts: 3 marked")


def test_exit_codes(place: Path) -> None:
    bad = place / "bad.jsonl"
    bad.write_text((place / "ids.jsonl").read_text() + "nonsense\n")
    for words, code in {
        ("ids.jsonl", "--fail-if", "marked"): 1,
        ("ids.jsonl", "--fail-if", "unmarked"): 1,
        ("bad.jsonl", "--fail-if", "marked"): 1,
        ("bad.jsonl",): 2,
        ("ids.jsonl", "--fpr", "1e-300"): 0,
        ("ids.jsonl", "--fail-if", "marked", "--fpr", "1e-300"): 0,
    }.items():
        assert detect(*MARK, "--ids", *words) == code, words


def test_bad_lines_are_named_and_the_rest_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(place / "mixed.jsonl", "w") as file:
        file.write('{"id": "a", "ids": [1, 2]}\nnonsense\n{"ids": "x"}\n{"id": "far", "ids": [1, 400]}\n')
        file.write((place / "ids.jsonl").read_text())
    assert detect(*MARK, "--ids", "mixed.jsonl", "--out", "o.jsonl") == 2
    shown = capsys.readouterr()
    for number in (2, 3, 4):
        assert f"error: mixed.jsonl, line {number}: " in shown.err
    assert "outside the mark's vocabulary of 400" in shown.err
    assert "5 texts: 1 marked, 3 not marked, 1 not enough tokens. 3 could not be read." in shown.out
    found = records(place / "o.jsonl")
    assert [record["line"] for record in found] == list(range(1, 9))
    assert ["error" in record for record in found] == [False, True, True, True, False, False, False, False]


def test_several_keys_and_marks(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--mark", "mark.json", "--key-file", "key", "--key-file", "key-b"]
    assert detect(*both, "--ids", "ids.jsonl", "--out", "o.jsonl") == 0
    first = records(place / "o.jsonl")[0]
    assert (first["mark"], first["verdict"]) == ("mark/key", "marked")
    assert [one["verdict"] for one in first["marks"]] == ["marked", "not marked"]
    named = ["--mark", "x=mark.json", "--mark", "y=mark.json", "--key-file", "x=key-b", "--key-file", "y=key"]
    assert detect(*named, "--ids", "ids.jsonl") == 0
    assert re.search(r"^m .* marked +y$", capsys.readouterr().out, re.MULTILINE)


def test_settings_by_flags_and_the_key_from_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--scheme", "philox", "--vocab-size", str(V), "--ids", "ids.jsonl", "--fail-if", "marked"]
    monkeypatch.setenv(VARIABLE, str(KEY))
    assert detect(*flags) == 1
    monkeypatch.delenv(VARIABLE)
    assert detect(*flags) == 2
    assert detect(*flags, "--public-key") == 0
    assert detect(*flags, "--key-file", "key", "--context-width", "3") == 0


def test_the_vocabulary_of_the_model_beside_the_tokenizer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--key-file", "key", "--tokenizer", "hf:tokenizer", "texts.jsonl"]
    assert detect(*flags) == 2
    assert "--vocab-size is needed" in capsys.readouterr().err
    (place / "tokenizer" / "config.json").write_text(json.dumps({"vocab_size": V, "model_type": "gpt2"}))
    assert detect(*flags, "--fail-if", "marked") == 1
    assert "vocab_size is 400, as the model's config.json says" in capsys.readouterr().err
    assert detect(*flags, "--vocab-size", "399") == 2
    assert "ids up to 399" in capsys.readouterr().err


def test_disguised_text_is_found_after_normalisation(place: Path) -> None:
    text = (place / "passage.txt").read_text().replace("e", "\u0435").replace(" ", "\u200b ")
    (place / "disguised.txt").write_text(text)
    assert detect(*TEXT, "disguised.txt", "--fail-if", "marked") == 0
    assert detect(*TEXT, "disguised.txt", "--normalise", "unicode,homoglyphs", "--fail-if", "marked") == 1
    assert detect(*MARK, "--ids", "ids.jsonl", "--normalise", "unicode") == 2


def test_a_stopped_detection_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(place / "bad.jsonl", [{"ids": [1, 2, 3]}, {"ids": "no"}, {"ids": [4]}])
    command = [*MARK, "--ids", "ids.jsonl", "bad.jsonl", "--out", "o.jsonl"]
    assert detect(*command) == 2
    out = place / "o.jsonl"
    whole = out.read_bytes()
    said = capsys.readouterr().out
    for length in (0, 1, 40, len(whole) // 2, whole.rindex(b"\n", 0, -1) + 1, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:length])
        assert detect(*command) == 2
        assert out.read_bytes() == whole
        shown = capsys.readouterr()
        assert shown.out == said
        assert ("finished detections are kept" in shown.err) == (length > 400)
    out.write_bytes(whole + b'{"torn": "' + b"x" * 100_000)
    assert detect(*command) == 2
    assert out.read_bytes() == whole


def test_strange_names_of_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (place / "essay.txt").read_bytes()
    for name in (b"\xff.txt", b"\x1b[31m.txt", b"x.jsonl"):
        Path(os.fsdecode(bytes(place) + b"/odd/" + name)).parent.mkdir(exist_ok=True)
        Path(os.fsdecode(bytes(place) + b"/odd/" + name)).write_bytes(text)
    os.rename(place / "odd" / "x.jsonl", place / "odd" / "\x1b[32m.jsonl")
    for _ in range(2):
        assert detect(*TEXT, "odd", "--out", "o.jsonl") == 2
        shown = capsys.readouterr()
        assert "\x1b" not in shown.err + shown.out
        assert "2 texts" in shown.out
    assert detect(*TEXT, "odd") == 2
    assert "\x1b" not in capsys.readouterr().out
    assert main(["watermark", "scan", *TEXT, "odd"]) == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.err + shown.out


def test_results_of_another_command_are_not_mixed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "notes.txt").write_text("mine\n")
    assert detect(*MARK, "--ids", "ids.jsonl", "--out", "o.jsonl") == 0
    before = (place / "o.jsonl").read_bytes()
    for words, why in {
        ("ids.jsonl", "--fpr", "0.1", "--out", "o.jsonl"): "another command",
        ("ids.jsonl", "--windows", "--out", "o.jsonl"): "another command",
        ("ids.jsonl", "--out", "notes.txt"): "not one of these detections",
    }.items():
        assert detect(*MARK, "--ids", *words) == 2
        assert why in capsys.readouterr().err
    other = ["--mark", "mark.json", "--key-file", "key-b", "--ids", "ids.jsonl", "--out", "o.jsonl"]
    assert detect(*other) == 2
    ids = (place / "ids.jsonl").read_text().splitlines(keepends=True)
    (place / "ids.jsonl").write_text("\n" + "".join(ids))
    assert detect(*MARK, "--ids", "ids.jsonl", "--out", "o.jsonl") == 2
    (place / "ids.jsonl").write_text(ids[0])
    assert detect(*MARK, "--ids", "ids.jsonl", "--out", "o.jsonl") == 2
    assert capsys.readouterr().err.count("the inputs were changed") == 2
    assert (place / "o.jsonl").read_bytes() == before
    assert (place / "notes.txt").read_text() == "mine\n"


def test_the_page_and_the_terminal_escape_what_texts_hold(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = '<script>alert(1)</script> \x1b[31m\u202e & "quotes" ' + (place / "passage.txt").read_text()
    lines(place / "evil.jsonl", [{"id": "<img src=x>\x1b]0;t\x07", "text": evil}])
    assert detect(*TEXT, "evil.jsonl", "--windows", "--show", "--html", "page.html") == 0
    shown = capsys.readouterr().out
    assert "\x1b[31m\u202e" not in shown
    assert "\x1b]0" not in shown
    assert "\x1b[4m" in shown
    page = (place / "page.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    words = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "alert(1)" in words


def test_the_page_of_a_resumed_detection_is_whole(place: Path) -> None:
    command = [*MARK, "--ids", "ids.jsonl", "--out", "o.jsonl"]
    assert detect(*command) == 0
    assert detect(*command, "--html", "page.html") == 0
    assert all(f"{name}: " in (place / "page.html").read_text() for name in ("m", "p0", "p1", "p2"))


def test_the_key_is_in_no_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*TEXT, "texts.jsonl", "--windows", "--show", "--html", "page.html", "--out", "o.jsonl", "--debug"]
    assert detect(*command) == 0
    shown = capsys.readouterr()
    everything = shown.out + shown.err + (place / "page.html").read_text() + (place / "o.jsonl").read_text()
    assert str(KEY) not in everything
    assert f"{KEY:x}" not in everything


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "the following arguments are required: TEXT"),
        (["ids.jsonl", "--ids"], "--vocab-size is needed"),
        (["ids.jsonl", "--ids", "--mark", "mark.json"], "No key is given"),
        (["ids.jsonl", "--ids", "--key-file", "none", "--mark", "mark.json"], "There is no key file 'none'"),
        (["ids.jsonl", "--ids", "--key-file", "key", "--mark", "none.json"], "Cannot read the mark file"),
        (["ids.jsonl", "--ids", "--key-file", "key", "--mark", "key"], "no mark file"),
        (["ids.jsonl", "--ids", "--key-file", "mark.json", "--mark", "mark.json"], "is not a number"),
        (["ids.jsonl", "--ids", "--key-file", "b=key", "--mark", "a=mark.json"], "names no mark"),
        (["ids.jsonl", "--ids", *MARK, "--gamma", "0.5"], "leave out --gamma"),
        (["ids.jsonl", "--ids", *MARK, "--public-key"], "contradict"),
        (["ids.jsonl", "--ids", "--key-file", "key", "--scheme", "philo", "--vocab-size", "9"], "Did you mean"),
        (["ids.jsonl", "--ids", "--key-file", "key", "--gamma", "1.5"], "below 1"),
        (
            ["ids.jsonl", "--ids", "--key-file", "key", "--vocab-size", "400", "--scheme", "ff-minhash_prf-4-True-77"],
            "key",
        ),
        (["none.jsonl", "--ids", *MARK], "no file or folder 'none.jsonl'"),
        (["essay.txt", "--ids", *MARK], "plain text, and token ids are wanted"),
        (["essay.txt", *MARK], "Text needs the tokenizer"),
        (["essay.txt", *MARK, "--tokenizer", "tokenizer"], "allowed: hf:FOLDER"),
        (["essay.txt", *MARK, "--tokenizer", "hf:none"], "no folder 'none'"),
        (["essay.txt", *TEXT, "--normalise", "unicod"], "Did you mean 'unicode'"),
        (["ids.jsonl", "--ids", *MARK, "--window-sizes", "x"], "whole number"),
        (["ids.jsonl", "--ids", *MARK, "--fpr", "0"], "above 0"),
        (["ids.jsonl", "--ids", *MARK, "--out", "none/o.jsonl"], "Cannot write"),
    ],
)
def test_mistakes(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    assert detect(*words) == 2
    shown = capsys.readouterr().err
    assert why in shown
    assert "Traceback" not in shown


def test_keys_that_cannot_be_used_are_not_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("0", "-48151623", str(48151623 * 2**60), "48151623 42", "48151623x", "", "48151623\0", "9" * 2000):
        (place / "wrong").write_text(content)
        assert detect("--mark", "mark.json", "--key-file", "wrong", "--ids", "ids.jsonl", "--debug") == 2
        shown = capsys.readouterr()
        assert "key" in shown.err
        assert "48151623" not in shown.err + shown.out
        assert "99999" not in shown.err


def test_a_key_of_many_bits_for_a_scheme_of_few(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--scheme", "simple_1", "--vocab-size", "400", "--key-file", "key", "--ids", "ids.jsonl"]
    assert detect(*flags) == 0
    assert "warning: mark 'simple_1': The key has more than 32 bits" in capsys.readouterr().err


def test_payloads_are_read(place: Path) -> None:
    mark = Watermark("philox", vocab_size=V, key=KEY, payload=200)
    lines(place / "carrier.jsonl", [{"id": "c", "ids": watermarks.marked_ids(mark, 250)}])
    assert detect(*MARK, "--ids", "carrier.jsonl", "--fail-if", "marked") == 0
    assert detect(*MARK, "--ids", "carrier.jsonl", "--fail-if", "marked", "--read-payload", "--out", "o.jsonl") == 1
    assert records(place / "o.jsonl")[0]["payload"] == 200


def test_a_long_text_is_shown_around_its_marked_part(place: Path) -> None:
    ids = np.random.default_rng(0).integers(0, V, 9000)
    mark = Watermark("philox", vocab_size=V, key=KEY)
    ids[7000:7150] = watermarks.marked_ids(mark, 150)
    lines(place / "long.jsonl", [{"id": "c", "ids": ids.tolist()}])
    assert detect(*MARK, "--ids", "long.jsonl", "--windows", "--window-sizes", "100,150", "--html", "page.html") == 0
    assert "(tokens 5,000 to 9,000 of 9,000)" in (place / "page.html").read_text()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120), what=st.sampled_from(["f.jsonl", "f.txt", "k", "m.json"]))
def test_any_bytes_are_examined_or_refused(
    place: Path, capsys: pytest.CaptureFixture[str], content: bytes, what: str
) -> None:
    (place / what).write_bytes(content)
    command = {
        "f.jsonl": [*MARK, "--ids", "f.jsonl"],
        "f.txt": [*TEXT, "f.txt"],
        "k": ["--mark", "mark.json", "--key-file", "k", "--ids", "ids.jsonl"],
        "m.json": ["--mark", "m.json", "--key-file", "key", "--ids", "ids.jsonl"],
    }[what]
    assert detect(*command) in (0, 2)
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "unexpected" not in shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(*MARK, "--ids", "ids.jsonl", "--out", "/dev/full") == 2
    assert "Free some space" in capsys.readouterr().err
    assert detect(*MARK, "--ids", "ids.jsonl", "--out", "/dev/null") == 0


def test_ids_are_examined_without_transformers(place: Path) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None; from assay.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "watermark", "detect", *MARK]
    done = subprocess.run([*command, "--ids", "ids.jsonl"], cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 marked" in done.stdout
    done = subprocess.run([*command, "--tokenizer", "hf:tokenizer", "essay.txt"], cwd=place, capture_output=True, text=True, check=False)  # fmt: skip  # noqa: E501
    assert done.returncode == 2
    assert "assay-ml[hf]" in done.stderr


def test_text_through_a_pipe(place: Path) -> None:
    with watermarks.start("detect", *TEXT, "-", "--fail-if", "marked", cwd=place, stdin=subprocess.PIPE) as process:
        out, err = process.communicate((place / "passage.txt").read_text(), timeout=100)
    assert process.returncode == 1
    assert re.search(r"standard input .* marked", out)
    assert err == ""


def test_killed_in_the_middle(place: Path) -> None:
    """Windows make it slow enough to be killed between two blocks."""
    mark = Watermark("philox", vocab_size=V, key=KEY)
    texts: list[dict[str, Any]] = [
        {"id": i, "ids": watermarks.marked_ids(mark, 30 + i % 50, share=0.4, seed=i)} for i in range(800)
    ]
    lines(place / "many.jsonl", texts)
    command = ["detect", *MARK, "--ids", "many.jsonl", "--windows", "--window-sizes", "20", "--out", "o.jsonl"]
    out = place / "o.jsonl"
    with watermarks.start(*command, cwd=place) as process:
        for _ in range(2000):
            if out.exists() and out.stat().st_size:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = out.read_bytes()
    assert 0 < kept.count(b"\n") < 800
    out.write_bytes(kept + b'{"source": "many.js')
    assert main(["watermark", *command]) == 0
    assert out.read_bytes().startswith(kept)
    found = records(out)
    assert [record["id"] for record in found] == [str(i) for i in range(800)]


def test_text_that_is_not_found_under_lists_of_torch_may_come_from_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Official text that was generated on CUDA has other lists: said, not passed over."""
    monkeypatch.chdir(tmp_path)
    Path("ids.jsonl").write_text('{"ids": ' + str(list(range(400))) + "}\n", encoding="utf-8")
    command = ["watermark", "detect", "--vocab-size", "500", "--public-key", "--ids", "ids.jsonl", "--scheme"]
    assert main([*command, "simple_1"]) == 0
    assert "on a GPU has other lists" in capsys.readouterr().err
    assert main([*command, "philox"]) == 0
    assert "GPU" not in capsys.readouterr().err
