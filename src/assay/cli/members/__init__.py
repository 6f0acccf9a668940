"""Tell which records a model betrays as its training data."""

from __future__ import annotations

import argparse
import importlib

from ..actions import choose_action
from ..common import command_line

ACTIONS = {
    "audit": "train shadow models, attack a model with them, and report who is exposed",
    "canary": "the same with optimised queries for each record: slower, and sees more",
    "attack": "attack from answers or scores in a file: nothing is trained",
    "pool": "train the shadow models alone, such as on several machines at once",
}


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay members ACTION``."""
    action, rest = choose_action(parser, words, "members", ACTIONS)
    module = importlib.import_module(f"{__name__}.{action}")
    parser.description = module.__doc__
    module.flags(parser)
    arguments = parser.parse_args(rest)
    arguments.work = module.run
    arguments.command = command_line("members", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return int(arguments.work(arguments))
