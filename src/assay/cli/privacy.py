"""Account for privacy, and show who pays for it in a trained model."""

from __future__ import annotations

import argparse

from . import privacy_accounting, privacy_diagnosis
from .actions import choose_action
from .common import command_line

ACTIONS = {
    "epsilon": "tell the epsilon of a training from its noise, sampling rate and number of steps",
    "calibrate": "tell the noise that a target epsilon needs",
    "diagnose": "show who pays for privacy in a trained model, and why",
}
FLAGS = {
    "epsilon": privacy_accounting.epsilon_flags,
    "calibrate": privacy_accounting.calibrate_flags,
    "diagnose": privacy_diagnosis.diagnose_flags,
}
WORK = {
    "epsilon": privacy_accounting.tell_epsilon,
    "calibrate": privacy_accounting.tell_noise,
    "diagnose": privacy_diagnosis.show_who_pays,
}


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay privacy ACTION``."""
    action, rest = choose_action(parser, words, "privacy", ACTIONS)
    FLAGS[action](parser)
    arguments = parser.parse_args(rest)
    arguments.action = action
    arguments.command = command_line("privacy", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return WORK[arguments.action](arguments)
