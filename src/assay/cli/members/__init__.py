"""Tell which records a model betrays as its training data."""

from __future__ import annotations

import argparse

from ..actions import parse_action

ACTIONS = {
    "audit": "train shadow models, attack a model with them, and report who is exposed",
    "canary": "the same with optimised queries for each record: slower, and it may see more",
    "attack": "attack from answers or scores in a file: nothing is trained",
    "pool": "train the shadow models alone, such as on several machines at once",
}


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay members ACTION``."""
    return parse_action(parser, words, "members", ACTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return int(arguments.work(arguments))
