"""Verbs that have actions of their own, such as ``assay privacy epsilon``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence

from ..core.errors import SettingError, did_you_mean
from .common import command_line


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


def parse_action(
    parser: argparse.ArgumentParser, words: Sequence[str], verb: str, actions: Mapping[str, str]
) -> argparse.Namespace:
    """The flags of an action that has a file of its own, ``assay.cli.VERB.ACTION`` with ``flags`` and ``run``.

    Args:
        parser, words, verb, actions: as for :func:`choose_action`.

    Returns:
        The arguments; ``work`` is the action's ``run``, ``command`` what to type to get the same again.
    """
    action, rest = choose_action(parser, words, verb, actions)
    module = importlib.import_module(f"{__package__}.{verb}.{action}")
    parser.description = module.__doc__
    module.flags(parser)
    arguments = parser.parse_args(rest)
    arguments.work = module.run
    arguments.command = command_line(verb, list(words))
    return arguments
