"""The outputs in the guide are real: this runs the commands again and renews them.

A ``console`` block holds commands behind ``$ ``; a ``text`` block right after it
is what they print. A block that begins with a line such as ``# release.yaml`` is
a file that the commands may use. All pages share one scratch folder and are
worked through in the order of ``PAGES``, since some use the results of others.

    python docs/refresh.py                    # every page, some minutes
    python docs/refresh.py commands/ls.md     # these pages only, where they need no others
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
PAGES = (
    "commands/index.md",
    "getting-started.md",
    "commands/audit.md",
    "commands/train.md",
    "commands/evade.md",
    "commands/margins.md",
    "commands/dynamics.md",
    "encoders.md",
    "commands/certify.md",
    "commands/privacy.md",
    "membership.md",
    "commands/members.md",
    "watermark.md",
    "commands/watermark.md",
    "commands/compare.md",
    "commands/check.md",
    "commands/report.md",
    "commands/ls.md",
    "commands/show.md",
    "commands/cite.md",
    "commands/doctor.md",
    "models.md",
    "troubleshooting.md",
)
COLUMNS = "100"
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE_NAME = re.compile(r"# (?P<name>[\w-]+\.(yaml|py))\n")


class Block(NamedTuple):
    """A fenced block: its language, text, and place in the page."""

    language: str
    body: str
    start: int
    end: int


class Example(NamedTuple):
    """Commands and the block that shows what they print."""

    commands: list[str]
    output: Block


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page."""
    return [Block(m["language"], m["body"], m.start("body"), m.end("body")) for m in FENCE.finditer(page)]


def commands(block: Block) -> list[str]:
    """The commands of a console block."""
    return [line[2:] for line in block.body.splitlines() if line.startswith("$ ")]


def examples(page: str) -> list[Example]:
    """The console blocks that have their output right behind them."""
    found = blocks(page)
    return [
        Example(commands(first), second)
        for first, second in itertools.pairwise(found)
        if first.language == "console" and second.language == "text" and page[first.end : second.start].count("\n") <= 3
    ]


def write_files(page: str, folder: Path) -> None:
    """The files that a page shows."""
    for block in blocks(page):
        named = FILE_NAME.match(block.body)
        if named:
            (folder / named["name"]).write_text(block.body, encoding="utf-8")


def run(words: list[str], folder: Path) -> str:
    """What commands print; where they print nothing, the error. Progress goes to stderr and is left out."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": COLUMNS, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout or done.stderr


def renewed(page: str, folder: Path) -> str:
    """The page with every output as it is now."""
    write_files(page, folder)
    parts, at = [], 0
    for example in examples(page):
        print("  " + "; ".join(example.commands), flush=True)
        parts += [page[at : example.output.start], run(example.commands, folder)]
        at = example.output.end
    return "".join(parts) + page[at:]


def main() -> None:
    """Renew the pages named on the command line, or all."""
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or PAGES:
            print(name, flush=True)
            path = DOCS / name
            path.write_text(renewed(path.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
