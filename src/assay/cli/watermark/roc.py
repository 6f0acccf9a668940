"""Measure how well marked text is told from other text: ROC, and rates at false positive rates of 1e-3 and 1e-5.

examples:
  assay watermark roc --mark mark.json --key-file key --ids --marked marked.jsonl --unmarked other.jsonl
  assay watermark roc --model hf:MODEL --key-file key --unmarked python-docs --limit 100

With --model, marked texts are written on the spot: they continue --prompts, or the beginnings of the unmarked texts,
whose own continuations then are what they are compared with. The same command goes on where it was stopped.

exit codes: 0 done, 1 a claim failed, 2 bad input, be it a single line, 3 not finished."""

from __future__ import annotations

import argparse

from ...core.errors import SettingError
from ...core.progress import Progress
from ..common import numbers
from .corpora import (
    Reader,
    add_corpus_flags,
    add_study_flags,
    add_writing_flags,
    mark_of,
    prompts_of,
    read_model,
    split_prompts,
    tokenizer_of,
    write,
)
from .flags import TEXT_HELP, add_mark_flags
from .showing import conclude


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark roc``."""
    parser.add_argument("--marked", nargs="+", metavar="TEXT", help=f"texts that carry the mark: {TEXT_HELP}")
    parser.add_argument("--unmarked", nargs="+", metavar="TEXT", help="texts that do not; python-docs is built in")
    parser.add_argument(
        "--fpr",
        type=numbers,
        default=(1e-3, 1e-5),
        metavar="P[,P...]",
        help="false positive rates (default: 1e-3,1e-5)",
    )
    parser.add_argument(
        "--windows",
        default="geometric",
        metavar="SIZES",
        help="window sizes of WinMax: geometric, max, a list such as 20,50, or none (default: geometric)",
    )
    add_mark_flags(parser, several=False)
    add_corpus_flags(parser)
    add_writing_flags(parser)
    add_study_flags(parser, "runs/watermark-roc")


def run(arguments: argparse.Namespace) -> int:
    """Gather the texts, and measure."""
    from ...studies.watermarking import study_rates
    from ...watermark.rates import WatermarkRates

    lm = read_model(arguments)
    if lm is None and (arguments.marked is None or arguments.unmarked is None):
        raise SettingError("--marked and --unmarked texts are needed, or a --model that writes what is missing.")
    if lm is not None and arguments.prompts is None and arguments.unmarked is None:
        raise SettingError("The model needs prompts: give --prompts, or --unmarked texts that it continues.")
    settings = WatermarkRates(fprs=arguments.fpr, windows=arguments.windows)
    mark = mark_of(arguments, lm)
    reader = Reader(arguments, tokenizer_of(arguments, mark, lm))
    with Progress(enabled=not arguments.no_progress) as progress:
        unmarked = None if arguments.unmarked is None else reader.read(arguments.unmarked, "unmarked text")
        marked = None if arguments.marked is None else reader.read(arguments.marked, "marked text")
        if lm is not None and (marked is None or unmarked is None):
            if arguments.prompts is not None:
                prompts = prompts_of(arguments, lm)
            else:
                assert unmarked is not None
                prompts, unmarked = split_prompts(unmarked, arguments.prompt_tokens, arguments.new_tokens)
            marked = marked or write(arguments, lm, prompts, mark, progress)
            unmarked = unmarked or write(arguments, lm, prompts, None, progress)
        assert marked is not None
        assert unmarked is not None
        study = study_rates(
            mark.watermark,
            marked,
            unmarked,
            settings,
            out=arguments.out,
            seed=arguments.seed,
            claims=arguments.claim,
            progress=progress,
            command=arguments.command,
        )
    return conclude(study, bad=reader.bad)
