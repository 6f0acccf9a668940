"""Train a small language model, mark its text and detect the mark: one command, no network.

The model learns English from the text that every Python carries, in about a minute. Then it continues the same
prompts with the mark and without it, and both are read, and what people wrote too. The report shows every token in
its colour. The same command goes on where it was stopped.

  assay watermark demo
  assay watermark demo --scheme gumbel --out runs/gumbel
  assay watermark demo --model hf:DIR --key-file key

The key is drawn at random and lies in OUT/key, which only its owner can read; it is in no record."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from ...core.errors import SettingError
from ..common import note, quoted, seed_number, whole
from ..output import sentences, table
from .flags import SCHEME_HELP, add_verdict_flags, real, share

if TYPE_CHECKING:
    from ...core.runs import Run
    from ...studies.auditing import Study
    from ...studies.watermark_demo import Demonstration
    from ...subjects.language import LanguageModel

OUT = "runs/watermark-demo"


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark demo``."""
    group = parser.add_argument_group("mark")
    group.add_argument("--scheme", metavar="NAME", default="philox", help=SCHEME_HELP)
    group.add_argument("--gamma", type=share, metavar="G", default=0.25, help="share of green tokens (default: 0.25)")
    group.add_argument("--delta", type=real, metavar="D", default=2.0, help="added to green logits (default: 2)")
    group.add_argument("--key-file", metavar="FILE", help="file with the key (default: OUT/key, made at random)")
    add_verdict_flags(group)
    group = parser.add_argument_group("texts")
    group.add_argument("--texts", type=whole, metavar="N", default=24, help="prompts (default: 24)")
    group.add_argument("--new-tokens", type=whole, metavar="T", default=200, help="tokens a text (default: 200)")
    group.add_argument("--model", metavar="MODEL", help="hf:DIR or run:DIR, in the place of the small model")
    group.add_argument("--documents", type=whole, metavar="N", help="documents the small model learns from")
    group = parser.add_argument_group("work")
    group.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="of everything but the key (default: 0)"
    )
    group.add_argument("--out", metavar="FOLDER", default=OUT, help=f"folder for all results (default: {OUT})")
    group.add_argument("--no-progress", action="store_true", help="show no progress bars")
    group.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")


def run(arguments: argparse.Namespace) -> int:
    """Train, write, detect, report."""
    from ...core.progress import Progress
    from ...studies import watermark_demo as demo
    from ...watermark import Watermark, WatermarkSettings, marks
    from ...watermark.keys import exposed, read_key
    from ...watermark.tokenization import Tokenizer

    plan = demo.Demonstration(texts=arguments.texts, new_tokens=arguments.new_tokens, fpr=arguments.fpr)
    marks.refuse_key_in_name(arguments.scheme, where="--scheme")
    described = {"scheme": arguments.scheme, "gamma": arguments.gamma, "delta": arguments.delta}
    WatermarkSettings(vocab_size=1000, **described)  # wrong settings are named before anything is trained
    given = None if arguments.key_file is None else read_key(arguments.key_file)
    if arguments.key_file is not None and (remark := exposed(arguments.key_file)):
        note(f"warning: {remark}")
    if arguments.dry_run:
        return _tell_cost(arguments, plan)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        lm = _model(arguments, progress)
        key = demo.secret(arguments.out, arguments.scheme) if given is None else given
        watermark = Watermark.from_settings(WatermarkSettings(vocab_size=lm.vocab_size, **described), key=key)
        study = demo.demonstrate(
            lm,
            watermark,
            plan,
            out=arguments.out,
            seed=arguments.seed,
            progress=progress,
            command=arguments.command,
        )
    file = study.path / demo.MARK
    marks.save(file, watermark.settings, tokenizer=Tokenizer(lm.tokenizer, lm.name).description)
    return _conclude(arguments, study)


def _model(arguments: argparse.Namespace, progress: Any) -> LanguageModel:
    from ...studies.watermark_demo import learn
    from ...subjects.language import load_language_model

    if arguments.model is None:
        return learn(arguments.out, documents=arguments.documents, seed=arguments.seed, progress=progress)
    if arguments.documents is not None:
        raise SettingError("--documents are for the small model, and --model names another. Leave one out.")
    return load_language_model(arguments.model)


def _tell_cost(arguments: argparse.Namespace, plan: Demonstration) -> int:
    if arguments.model is None:
        from ...studies.watermark_demo import material
        from ...training import forecast

        recipe, data = material(documents=arguments.documents)
        ahead = forecast(recipe, data=data, network=recipe.product.network, settings=None, seed=arguments.seed)
        print(f"A small model on {len(data)} windows of {data.length} tokens: {ahead}.")
    written = 2 * plan.texts * plan.new_tokens
    print(f"{2 * plan.texts} texts of {plan.new_tokens} tokens: {written:,} tokens written, {3 * written // 2:,} read.")
    print("Nothing was written.")
    return 0


def _conclude(arguments: argparse.Namespace, study: Study) -> int:
    from ...studies.watermark_demo import KEY, MARK, MODEL
    from ...studies.watermark_demo_view import meaning

    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: {entry.get('error', 'see its run')}")
            return study.exit_code
    (done,) = study.runs
    rows = list(_rows(done))
    heads = ["text", "texts", "called marked", "median z", "median p", "green", "perplexity"]
    table(f"{arguments.texts} prompts, continued three ways", heads, rows, right=range(1, len(heads)))
    print()
    middle = _medians(done, "marked")[1]
    sentences([f"The median of the marked texts. {meaning(middle)}"])
    for finding in done.findings:
        if finding.severity != "info":
            note(f"{finding.severity}: {finding.message} {finding.remedy}")
    key = str(study.path / KEY) if arguments.key_file is None else arguments.key_file
    model = arguments.model or f"hf:{study.path / MODEL}"
    print(f"\nKey: {key} (whoever has it can detect and imitate the mark)")
    again = ["assay", "watermark", "detect", "--mark", str(study.path / MARK), "--key-file", key]
    again += ["--tokenizer", model, str(study.path / "texts" / "marked.jsonl")]
    print(f"Detect it yourself: {quoted(again)}")
    print(f"Report: {study.report}")
    return study.exit_code


def _rows(done: Run) -> Any:
    """One line a kind of text."""
    from ...studies.watermark_demo_view import KINDS, NAMES, p_text

    columns = {name: done.samples[name].to_pylist() for name in ("kind", "verdict", "green", "scored")}
    for kind in KINDS:
        places = [place for place, value in enumerate(columns["kind"]) if value == kind]
        called = sum(columns["verdict"][place] == "marked" for place in places)
        green, scored = (sum(columns[name][place] for place in places) for name in ("green", "scored"))
        z, log10_p = _medians(done, kind)
        quality = done.metric(f"perplexity_{kind}")
        ends = f" [{quality.lo:.0f}, {quality.hi:.0f}]" if quality.lo is not None and quality.hi is not None else ""
        yield [
            NAMES[kind],
            str(len(places)),
            f"{called} of {len(places)}",
            f"{z:.1f}",
            p_text(log10_p),
            f"{100 * green / max(1, scored):.0f} %",
            f"{quality.value:.0f}{ends}",
        ]


def _medians(done: Run, kind: str) -> tuple[float, float]:
    """Of z and log10 p."""
    import statistics

    columns = {name: done.samples[name].to_pylist() for name in ("kind", "z", "log10_p")}
    places = [place for place, value in enumerate(columns["kind"]) if value == kind]
    z, log10_p = (statistics.median(columns[name][place] for place in places) for name in ("z", "log10_p"))
    return (z, log10_p) if math.isfinite(log10_p) else (z, 0.0)
