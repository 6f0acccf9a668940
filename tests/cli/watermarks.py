"""A folder with a mark, a key, a tokenizer and texts, for the tests of ``assay watermark``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from assay.watermark import Watermark
from assay.watermark.keys import VARIABLE, write_key
from assay.watermark.marks import save
from assay.watermark.tokenization import Tokenizer, load_tokenizer

from ..watermark.tiny import marked_ids, plain_words, save_tokenizer

KEY = 918273645546372819
V = 400
MARK = ["--mark", "mark.json", "--key-file", "key"]
TEXT = [*MARK, "--tokenizer", "hf:tokenizer"]


def marked_text(tokenizer: Tokenizer, mark: Watermark, tokens: int = 150, seed: int = 0) -> str:
    """Words, each next one drawn from a few so that most of its tokens are green once they are read again."""
    rng = np.random.default_rng(seed)
    words = np.array(plain_words(4000, seed).split(" "))
    text = ""
    while len(tokenizer.encode(text)) < tokens:
        tries = [f"{text} {word}" for word in rng.choice(words, 12)]
        tails = [tokenizer.encode(" ".join(one.split(" ")[-8:])) for one in tries]
        scores = [mark.detect(ids[-6:]).green / max(1, mark.detect(ids[-6:]).scored) for ids in tails]
        text = tries[int(np.argmax(scores))]
    return text.strip()


def make(folder: Path) -> Path:
    """mark.json, key, key-b, tokenizer/, texts.jsonl, ids.jsonl, essay.txt."""
    mark = Watermark("philox", vocab_size=V, key=KEY)
    save(folder / "mark.json", mark.settings)
    write_key(folder / "key", KEY)
    write_key(folder / "key-b", 31)
    tokenizer = load_tokenizer(f"hf:{save_tokenizer(folder / 'tokenizer')}")
    passage = marked_text(tokenizer, mark)
    essay = f"{plain_words(300, 1)} {passage} {plain_words(300, 2)}"
    (folder / "essay.txt").write_text(essay)
    (folder / "passage.txt").write_text(passage)
    texts: list[dict[str, Any]] = [
        {"id": "marked", "text": passage},
        {"id": "plain", "text": plain_words(150, 3)},
        {"id": "short", "text": "only this"},
        {"id": "essay", "text": essay},
    ]
    lines(folder / "texts.jsonl", texts)
    blind = np.random.default_rng(4).integers(0, V, (3, 150)).tolist()
    ids = [{"id": "m", "ids": marked_ids(mark, 150)}, *({"id": f"p{i}", "ids": row} for i, row in enumerate(blind))]
    lines(folder / "ids.jsonl", ids)
    return folder


def lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(*words: str, cwd: Path, **more: Any) -> subprocess.Popen[str]:
    """``assay watermark WORDS`` as a process of its own, without the variable of the key."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-m", "assay", "watermark", *words]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more
    )
