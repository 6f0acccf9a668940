"""Account for privacy, and show who pays for it in a trained model."""

from __future__ import annotations

import argparse

from ..core.errors import SettingError, did_you_mean
from . import privacy_accounting, privacy_diagnosis
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
    if not words or words[0].startswith("-"):
        parser.add_argument("action", metavar="ACTION", help="one of the actions below")
        width = max(map(len, ACTIONS))
        rows = [f"  {name:<{width}}  {text}" for name, text in ACTIONS.items()]
        parser.epilog = "\n".join(["actions:", *rows, "", "'assay privacy ACTION --help' explains an action."])
        return parser.parse_args(words)
    action = words[0]
    if action not in ACTIONS:
        raise SettingError(f"There is no action {action!r} of 'assay privacy'.{did_you_mean(action, ACTIONS)}")
    parser.prog = f"assay privacy {action}"
    FLAGS[action](parser)
    arguments = parser.parse_args(words[1:])
    arguments.action = action
    arguments.command = command_line("privacy", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return WORK[arguments.action](arguments)
