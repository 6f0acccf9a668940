"""Measure what is left of the mark after edits: substituted, inserted, deleted, swapped tokens, copy-paste, typing.

examples:
  assay watermark attack --mark mark.json --key-file key --ids --marked marked.jsonl
  assay watermark attack --mark mark.json --key-file key --tokenizer hf:MODEL --marked marked.jsonl --human human/
  assay watermark attack ... --edit substitute:0.1,0.3 --edit copy-paste:share=0.1,0.25;spans=3

'assay ls edit' lists the edits. Copy-paste needs --human text, and edits of text need a tokenizer; those without what
they need are left out. The same command goes on where it was stopped.

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
from .showing import conclude, show_edits


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark attack``."""
    parser.add_argument("--marked", nargs="+", metavar="TEXT", help=f"texts that carry the mark: {TEXT_HELP}")
    parser.add_argument(
        "--human", nargs="+", metavar="TEXT", help="unmarked texts, for copy-paste; python-docs is built in"
    )
    parser.add_argument(
        "--edit",
        action="append",
        metavar="NAME[:STRENGTHS]",
        help="an edit from 'assay ls edit'; may be repeated (default: all, at usual strengths)",
    )
    parser.add_argument(
        "--normalise",
        default="",
        metavar="NAMES",
        help="what the detector does to text after edits of text: unicode, homoglyphs, or both",
    )
    parser.add_argument(
        "--fpr",
        type=numbers,
        default=(1e-3, 1e-5),
        metavar="P[,P...]",
        help="stated false positive rates (default: 1e-3,1e-5)",
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
    add_study_flags(parser, "runs/watermark-attack")


def run(arguments: argparse.Namespace) -> int:
    """Gather the texts, edit them, and measure."""
    from ...studies.watermarking import study_attack
    from ...watermark.attacked import WatermarkAttack, usual_edits

    lm = read_model(arguments)
    if arguments.marked is None and lm is None:
        raise SettingError("--marked texts are needed, or a --model that writes them.")
    if arguments.marked is None and arguments.prompts is None and arguments.human is None:
        raise SettingError("The model needs prompts: give --prompts, or --human texts that it continues.")
    mark = mark_of(arguments, lm)
    tokenizer = tokenizer_of(arguments, mark, lm)
    edits = arguments.edit or usual_edits(human=arguments.human is not None, tokenizer=tokenizer is not None)
    settings = WatermarkAttack(
        edits=tuple(edits), fprs=arguments.fpr, windows=arguments.windows, normalise=arguments.normalise
    )
    reader = Reader(arguments, tokenizer)
    with Progress(enabled=not arguments.no_progress) as progress:
        human = None if arguments.human is None else reader.read(arguments.human, "human text")
        if arguments.marked is not None:
            marked = reader.read(arguments.marked, "marked text")
        else:
            assert lm is not None
            if arguments.prompts is not None:
                prompts = prompts_of(arguments, lm)
            else:
                assert human is not None
                prompts, _ = split_prompts(human, arguments.prompt_tokens, arguments.new_tokens)
            marked = write(arguments, lm, prompts, mark, progress)
        study = study_attack(
            mark.watermark,
            marked,
            settings,
            human=human,
            tokenizer=tokenizer,
            out=arguments.out,
            seed=arguments.seed,
            claims=arguments.claim,
            progress=progress,
            command=arguments.command,
        )
    show_edits(study)
    return conclude(study, bad=reader.bad, metrics=False)
