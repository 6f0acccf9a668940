"""Check on your own human text that p-values mean what they say.

examples:
  assay watermark calibrate python-docs --tokenizer hf:MODEL
  assay watermark calibrate human/ --mark mark.json --tokenizer hf:MODEL --length 200 --keys 200
  assay watermark calibrate ids.jsonl --ids --scheme selfhash --vocab-size 50272 --windows

Every text is examined under many random keys, so that there are texts times keys p-values; your own key is not
needed. The report compares how many are small with how many should be. The same command goes on where it was stopped.

exit codes: 0 done, 1 a claim failed, 2 bad input, be it a single line, 3 not finished."""

from __future__ import annotations

import argparse

from ...core.progress import Progress
from ..common import numbers, whole
from .corpora import Reader, add_study_flags, tokenizer_of
from .flags import add_mark_flags, add_text_flags, read_mark, read_normaliser
from .showing import conclude, show_null


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark calibrate``."""
    add_text_flags(parser)
    parser.add_argument("--keys", type=whole, default=100, metavar="N", help="random keys (default: 100)")
    parser.add_argument(
        "--alpha",
        type=numbers,
        default=(0.05, 0.01, 1e-3, 1e-4),
        metavar="P[,P...]",
        help="error rates that are checked (default: 0.05,0.01,1e-3,1e-4)",
    )
    parser.add_argument(
        "--length", type=whole, metavar="T", help="cut texts into pieces of T tokens (default: leave them as they are)"
    )
    parser.add_argument(
        "--windows",
        nargs="?",
        const="geometric",
        default="none",
        metavar="SIZES",
        help="check WinMax too, under the first keys: geometric, max, or a list such as 20,50",
    )
    parser.add_argument(
        "--window-keys", type=whole, default=5, metavar="N", help="keys under which WinMax is checked (default: 5)"
    )
    parser.add_argument("--limit", type=whole, metavar="N", help="use the first N texts (default: all)")
    add_mark_flags(parser, several=False, key=False)
    add_study_flags(parser, "runs/watermark-calibrate")


def run(arguments: argparse.Namespace) -> int:
    """Read the texts, and examine them under random keys."""
    from ...studies.watermarking import study_null
    from ...watermark.null import WatermarkNull

    settings = WatermarkNull(
        keys=arguments.keys,
        alphas=arguments.alpha,
        windows=arguments.windows,
        window_keys=arguments.window_keys,
        length=arguments.length or 0,
    )
    # The settings of the mark are all that is needed, so a key that everybody knows stands in for one's own.
    mark = read_mark(argparse.Namespace(**{**vars(arguments), "key_file": None, "public_key": True}))
    clean = read_normaliser(arguments)
    reader = Reader(argparse.Namespace(**vars(arguments), tokens=None), tokenizer_of(arguments, mark, None), clean)
    with Progress(enabled=not arguments.no_progress) as progress:
        study = study_null(
            mark.watermark.settings,
            reader.read(arguments.texts, "human text"),
            settings,
            out=arguments.out,
            seed=arguments.seed,
            claims=arguments.claim,
            progress=progress,
            command=arguments.command,
        )
    show_null(study)
    return conclude(study, bad=reader.bad, metrics=False)
