"""Mark the text of a language model, and tell marked text from any other."""

from __future__ import annotations

import argparse

from ..actions import parse_action

ACTIONS = {
    "demo": "train a small language model, mark its text and detect it: one command, no network",
    "generate": "continue prompts with a model whose output carries the mark",
    "detect": "tell whether texts carry a mark",
    "scan": "find marked passages in a large corpus",
    "plan": "tell how many tokens a detection needs",
    "roc": "measure how well marked text is told from other text",
    "attack": "measure what is left of the mark after edits",
    "calibrate": "check on your own human text that p-values mean what they say",
    "serve": "answer detection requests over HTTP",
}


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay watermark ACTION``."""
    return parse_action(parser, words, "watermark", ACTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return int(arguments.work(arguments))
