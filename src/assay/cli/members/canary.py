"""Tell which training records a model betrays to optimised queries: small changes of each image that make models that
saw it answer otherwise than models that did not (canaries).

examples:
  assay members canary --model runs/model --data digits --targets 200
  assay members canary --model runs/model --data digits --mode offline --queries 5 --pools runs/members/pools
  assay members canary --model hf:MODEL --data train.npz --nonmembers test.npz --recipe recipe.yaml --dry-run

Each record is attacked by a number of queries, found by gradient descent through the shadow models, and the same
number of plain ones beside them, so that the report shows what the optimisation adds. Offline, no model is used that
saw the record, as an attacker would have it who learns the records only afterwards.

The same command goes on where it was stopped. Shadow models of 'assay members audit' with the same records, recipe
and seed are used again when --pools names their folder.

exit codes: 0 done, 1 a claim failed, 2 bad input, 3 not finished: the same command goes on."""

from __future__ import annotations

import argparse
from typing import Any

from ...core.settings import allowed, as_dict, fields_of
from ..common import add_model_flags, fit_threads, read_target, whole
from ..flags import destination, settings_from
from ..show import value_text
from .flags import (
    add_evidence_flags,
    add_pool_flags,
    add_records_flags,
    add_study_flags,
    check_training_data,
    pool_words,
    read_pool_recipe,
    read_records,
    study_words,
)
from .showing import conclude, tell_cost

NAMES = {"targets": "aims", "shadows": "drawn", "augment": "variants"}
VARIANCES = ("residual", "per-example", "canary-code", "carlini-code")
MAIN = ("queries", "steps", "epsilon", "mode", "objective")


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay members canary``."""
    from ...membership.canaries.settings import CanarySettings

    add_study_flags(parser, "runs/canary")
    add_model_flags(parser, required=True)
    add_records_flags(parser)
    add_pool_flags(parser)
    group = parser.add_argument_group("canary queries")
    group.add_argument(
        "--targets",
        type=whole,
        default=200,
        metavar="N",
        help="records that are attacked, half of them members (default: 200)",
    )
    for field, _ in fields_of(CanarySettings):
        facts = "; ".join(filter(None, [allowed(field), f"default: {value_text(field.default)}"]))
        group.add_argument(
            "--" + NAMES.get(field.name, field.name).replace("_", "-"),
            dest=destination(CanarySettings, field.name),
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{field.metadata.get('help', '')} ({facts})".replace("%", "%%"),
        )
    group = parser.add_argument_group("scores")
    group.add_argument(
        "--variance",
        choices=VARIANCES,
        default="residual",
        help="of LiRA, which judges the answers (default: residual)",
    )
    add_evidence_flags(group)


def run(arguments: argparse.Namespace) -> int:
    """Optimise and attack, or tell what that would cost."""
    from ...core.progress import Progress
    from ...membership.canaries.settings import CanarySettings
    from ...studies.membership import forecast_canaries, study_canaries

    chosen = as_dict(settings_from(arguments, CanarySettings))
    members, nonmembers = read_records(arguments)
    target = read_target(arguments, members)
    check_training_data(arguments, target, members)
    recipe = read_pool_recipe(arguments, target)
    what: dict[str, Any] = {
        **pool_words(arguments, recipe),
        **study_words(arguments),
        **{name: chosen.pop(name) for name in MAIN},
        "targets": arguments.targets,
        "canary": chosen,
        "variance": arguments.variance,
    }
    fit_threads(members)
    if arguments.dry_run:
        return tell_cost(forecast_canaries(target, members, nonmembers, **what), recipe)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        study = study_canaries(target, members, nonmembers, progress=progress, **what)
    return conclude(study)
