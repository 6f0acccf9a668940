"""Tell how many tokens a detection needs, before any text is marked.

examples:
  assay watermark plan --gamma 0.25 --delta 2 --fpr 1e-6
  assay watermark plan --delta 1,2,5 --entropy 0.8 --fpr 1e-6,1e-9 --power 0.5,0.95 --json
  assay watermark plan --delta 2 --model hf:MODEL --prompts prompts.jsonl

Text in which the model has much choice carries a mark in few tokens. How much choice there is, spike entropy says: 1
is most, and code or quotations have little. With --model it is measured on your prompts; else give --entropy, or read
the table for several. The numbers follow from Theorem 4.2 of Kirchenbauer et al. (2023), a lower bound on green
tokens, and the exact test: real text needs as many or fewer.

exit codes: 0 done, 2 bad input."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from ...core.errors import SettingError
from ...core.progress import Progress
from ..common import numbers, positive, seed_number, whole
from .flags import natural, share

if TYPE_CHECKING:
    from ...core.estimates import Estimate
    from ...watermark.planning import Plan

GAMMA, DELTA = 0.25, 2.0


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay watermark plan``."""
    group = parser.add_argument_group("mark")
    group.add_argument("--mark", metavar="FILE", help="mark file, whose settings are used")
    group.add_argument("--gamma", type=share, metavar="G", help=f"share of green tokens (default: {GAMMA})")
    group.add_argument(
        "--delta", type=numbers, metavar="D[,D...]", help=f"added to the logits of green tokens (default: {DELTA:g})"
    )
    group.add_argument("--hard", action="store_true", help="green tokens only, whatever the delta")
    group.add_argument("--gumbel", action="store_true", help="the Gumbel mark, which has no green tokens")
    group = parser.add_argument_group("detection")
    group.add_argument(
        "--fpr",
        type=numbers,
        default=(1e-6,),
        metavar="P[,P...]",
        help="share of unmarked texts that may be called marked (default: 1e-6)",
    )
    group.add_argument(
        "--power",
        type=numbers,
        default=(0.95,),
        metavar="P[,P...]",
        help="share of marked texts that is to be found (default: 0.95)",
    )
    group = parser.add_argument_group("entropy")
    group.add_argument("--entropy", type=numbers, metavar="S[,S...]", help="average spike entropy (default: a table)")
    group.add_argument("--model", metavar="MODEL", help="measure it: hf:FOLDER, or the folder of 'assay train'")
    group.add_argument("--prompts", nargs="+", metavar="FILE", help="prompts: .jsonl with 'prompt', or .txt")
    group.add_argument("--limit", type=whole, default=20, metavar="N", help="use the first N prompts (default: 20)")
    group.add_argument("--new-tokens", type=whole, default=100, metavar="T", help="tokens a prompt (default: 100)")
    group.add_argument("--temperature", type=positive, default=1.0, metavar="X", help="of the draws (default: 1)")
    group.add_argument("--top-k", type=natural, default=0, metavar="K", help="draw from the K likeliest; 0: from all")
    group.add_argument("--top-p", type=share, metavar="P", help="draw from the likeliest tokens with this mass")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cpu)")
    group.add_argument("--batch-size", type=whole, default=16, metavar="N", help="prompts at once (default: 16)")
    group.add_argument("--seed", type=seed_number, default=0, metavar="N", help="seed of the draws (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")


def run(arguments: argparse.Namespace) -> int:
    """Make the plans and print them."""
    from ...watermark.planning import plan

    gamma, deltas, scheme = _mark(arguments)
    measured = _measured(arguments, gamma, deltas) if arguments.model is not None else {}
    if arguments.prompts is not None and not measured:
        raise SettingError("--prompts are for a model; give --model, or leave them out.")
    plans = [
        plan(
            gamma,
            delta,
            fprs=arguments.fpr,
            powers=arguments.power,
            entropies=measured.get(delta) or arguments.entropy,
            scheme=scheme,
        )
        for delta in deltas
    ]
    if arguments.json:
        print(json.dumps([one.as_dict() for one in plans], indent=2, allow_nan=False))
        return 0
    for one in plans:
        _show(one)
    return 0


def _mark(arguments: argparse.Namespace) -> tuple[float, tuple[float, ...], str]:
    """gamma, deltas (infinite: hard), and the kind of scheme."""
    if arguments.mark is None:
        deltas = arguments.delta or (DELTA,)
        if arguments.hard:
            deltas = (math.inf,)
        return arguments.gamma or GAMMA, tuple(deltas), "gumbel" if arguments.gumbel else "green"
    from ...watermark.marks import load

    given = [name for name in ("gamma", "delta") if getattr(arguments, name) is not None]
    given += [name for name in ("hard", "gumbel") if getattr(arguments, name)]
    if given:
        raise SettingError(f"The mark file says it; leave out --{', --'.join(given)}, or leave out --mark.")
    settings = load(arguments.mark).settings
    scheme = "gumbel" if settings.recipe.family == "gumbel" else "green"
    return settings.gamma, (math.inf if settings.hard else settings.delta,), scheme


def _measured(arguments: argparse.Namespace, gamma: float, deltas: tuple[float, ...]) -> dict[float, Estimate]:
    """The spike entropy of the model on the prompts, at the modulus of each delta."""
    from ...subjects.language import load_language_model
    from ...watermark.planning import estimate_entropy
    from .corpora import prompts_of

    if arguments.entropy is not None:
        raise SettingError("--entropy and --model both tell the entropy. Leave one out.")
    if arguments.prompts is None:
        raise SettingError("--model needs --prompts, as it will be used: entropy depends on them.")
    lm = load_language_model(arguments.model, device=arguments.device)
    prompts = prompts_of(arguments, lm)
    with Progress(enabled=not arguments.no_progress) as progress:
        return {
            delta: estimate_entropy(
                lm,
                prompts,
                gamma,
                delta,
                new_tokens=arguments.new_tokens,
                temperature=arguments.temperature,
                top_k=arguments.top_k,
                top_p=arguments.top_p or 1.0,
                seed=arguments.seed,
                batch_size=arguments.batch_size,
                progress=progress,
            )
            for delta in deltas
        }


def _show(plan: Plan) -> None:
    """The table over error rates and entropies, and plain words."""
    from ..output import sentences, table

    entropies = list(dict.fromkeys(need.entropy for need in plan.needs))
    heads = ["false positives", "z", "found", *(f"S {entropy:.3g}" for entropy in entropies)]
    rows: list[list[Any]] = []
    for fpr, power in dict.fromkeys((need.fpr, need.power) for need in plan.needs):
        z = next(need.z for need in plan.needs if need.fpr == fpr)
        tokens = [plan.tokens(entropy, fpr, power) for entropy in entropies]
        rows.append([f"{fpr:g}", f"{z:.2f}", f"{power:.0%}", *(_count(one) for one in tokens)])
    if plan.scheme == "gumbel":
        title = "Tokens needed: Gumbel mark"
    else:
        strength = "hard" if math.isinf(plan.delta) else f"delta {plan.delta:g}"
        title = f"Tokens needed: gamma {plan.gamma:g}, {strength}, by spike entropy S (modulus {plan.modulus:.3g})"
        green = {need.entropy: need.green for need in plan.needs}
        rows.append(["green tokens, at least", "", "", *(f"{green[entropy] or 0:.1%}" for entropy in entropies)])
    choices = {need.entropy: need.choices for need in plan.needs}
    rows.append(["tokens to choose from", "", "", *(f"{choices[entropy]:.3g}" for entropy in entropies)])
    table(title, heads, rows, right=range(1, len(heads)))
    print()
    sentences(plan.sentences())
    print()


def _count(tokens: float) -> str:
    return "never" if math.isinf(tokens) else f"{tokens:,.0f}"
