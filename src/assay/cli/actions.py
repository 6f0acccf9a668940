"""Verbs that have actions of their own, such as ``assay privacy epsilon``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from ..core.errors import SettingError, did_you_mean


def choose_action(
    parser: argparse.ArgumentParser, words: Sequence[str], verb: str, actions: Mapping[str, str]
) -> tuple[str, list[str]]:
    """The action that stands first, and the words behind it; without one, the help or the error of the verb.

    Args:
        parser: of the verb; its program name becomes that of the action.
        words: after the verb.
        verb: such as ``"privacy"``.
        actions: what each does, by name.

    Raises:
        SettingError: there is no such action.
        SystemExit: help was asked for, or no action was named.
    """
    rest = [word for word in words if word != "--debug"]
    debug = ["--debug"] * (len(rest) < len(words))
    if not rest or rest[0].startswith("-"):
        parser.add_argument("action", metavar="ACTION", help="one of the actions below")
        width = max(map(len, actions))
        rows = [f"  {name:<{width}}  {text}" for name, text in actions.items()]
        parser.epilog = "\n".join(["actions:", *rows, "", f"'assay {verb} ACTION --help' explains an action."])
        parser.parse_args([word for word in rest if word in ("-h", "--help")])
    action = rest[0]
    if action not in actions:
        raise SettingError(f"There is no action {action!r} of 'assay {verb}'.{did_you_mean(action, actions)}")
    parser.prog = f"assay {verb} {action}"
    return action, [*rest[1:], *debug]
