"""``assay VERB ...``: finds the verb, runs it, and turns errors into sentences and exit codes."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..core.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, EXIT_INTERNAL, AssayError, did_you_mean

VERBS = {
    "audit": ("assay.cli.audit", "run a suite of tests on a model and write a report"),
    "evade": ("assay.cli.evade", "attack a model and tell its robust accuracy"),
    "margins": ("assay.cli.margins", "measure every sample's distance to the decision boundary"),
    "train": ("assay.cli.train", "train a model by a named recipe"),
    "dynamics": ("assay.cli.dynamics", "show how the decision boundary moves during a training"),
    "certify": ("assay.cli.certify", "prove robustness by randomized smoothing"),
    "privacy": ("assay.cli.privacy", "privacy accounting, and who pays for privacy in a trained model"),
    "members": ("assay.cli.members", "tell which records a model betrays as its training data"),
    "watermark": ("assay.cli.watermark", "mark generated text, and tell marked text from any other"),
    "compare": ("assay.cli.compare", "compare two audits sample by sample"),
    "check": ("assay.cli.check", "check claims against finished runs"),
    "report": ("assay.cli.report", "write the report of finished runs again"),
    "ls": ("assay.cli.ls", "list what there is: probes, attacks, recipes, suites"),
    "show": ("assay.cli.show", "explain one method: equation, settings, source"),
    "cite": ("assay.cli.cite", "print the BibTeX entries that runs or methods owe"),
    "doctor": ("assay.cli.doctor", "tell whether this installation works"),
}

DESCRIPTION = "Tests what a machine-learning model withstands, and backs every statement with a record."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after ``assay``; default: those of this process.

    Returns:
        The exit code: 0 all is well, 1 a claim failed, 2 bad usage or input,
        3 incomplete, 4 internal error.
    """
    if argv is None:
        _leave(main(sys.argv[1:]))
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"assay {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"error: There is no command {verb!r}.{did_you_mean(verb, VERBS)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return _run(verb, rest)


def overview() -> str:
    """The text of ``assay --help``."""
    width = max(map(len, VERBS))
    rows = [f"  {verb:<{width}}  {help}" for verb, (_, help) in VERBS.items()]
    return "\n".join(
        [
            "usage: assay COMMAND ...",
            "",
            DESCRIPTION,
            "",
            "commands:",
            *rows,
            "",
            "Begin with 'assay audit': it trains a small model on real digits and examines it.",
            "'assay COMMAND --help' explains a command; 'assay --version' tells the version.",
            "exit codes: 0 fine, 1 a claim failed, 2 bad input, 3 incomplete, 4 internal error",
        ]
    )


def _leave(code: int) -> NoReturn:
    """End the process with this exit code and no other.

    Threads of native libraries (Arrow's beside PyTorch's) can outlive the interpreter and then abort the process, or
    hang, after all work is done; the exit code would be lost. So what Python does at exit is done, and no more.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader may have gone
            stream.flush()
    os._exit(code)


def _run(verb: str, words: list[str]) -> int:
    debug = "--debug" in words or os.environ.get("ASSAY_DEBUG", "") not in ("", "0")
    try:
        module = importlib.import_module(VERBS[verb][0])
        parser = argparse.ArgumentParser(
            prog=f"assay {verb}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        arguments = module.parse(parser, words)
        return int(module.run(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped; run the same command to go on.", file=sys.stderr)
        return EXIT_INCOMPLETE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: say nothing more
        return 0
    except Exception as error:
        return _explain(error, verb, debug)


def _explain(error: Exception, verb: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, AssayError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    hint = "" if debug else f" Repeat with 'assay {verb} --debug' to see where."
    print(f"error: unexpected {type(error).__name__}: {error}.{hint}", file=sys.stderr)
    return EXIT_INTERNAL
