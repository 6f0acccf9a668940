"""Tell which training records a model betrays: train shadow models, attack the model with them, report.

examples:
  assay members audit --model runs/model --data digits
  assay members audit --model hf:MODEL --data train.npz --nonmembers test.npz --recipe recipe.yaml --shadows 64
  assay members audit --answers answers.npz --data train.npz --nonmembers test.npz --recipe recipe.yaml
  assay members audit --model runs/model --data digits --dry-run

The shadow models are trained by the recipe of the model, each on a random half of all records; whoever attacks a model
can do the same. Records whose answers differ between models that saw them and models that did not are the exposed
ones. With --answers the model itself is not needed: the file holds what it answered to the records of --data followed
by --nonmembers, as logits, probabilities or predicted labels.

The same command goes on where it was stopped, and on several computers that share --out (or --pools) it shares the
work.

exit codes: 0 done, 1 a claim failed, 2 bad input, 3 not finished: the same command goes on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ...core.errors import SettingError
from ..common import add_model_flags, fit_threads, read_target
from .flags import (
    add_attack_flags,
    add_pool_flags,
    add_query_flags,
    add_records_flags,
    add_study_flags,
    check_training_data,
    pool_words,
    read_pool_recipe,
    read_records,
    read_split,
    study_words,
)
from .showing import conclude, tell_cost

if TYPE_CHECKING:
    from ...data.dataset import Dataset
    from ...studies.membership import BlackBox
    from ...subjects.target import Target


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay members audit``."""
    add_study_flags(parser, "runs/members")
    add_model_flags(parser, required=False)
    parser.add_argument_group("black box, in the place of --model").add_argument(
        "--answers",
        metavar="FILE",
        help="its answers to --data, then --nonmembers: an .npz with logits, probabilities or labels, or a .csv",
    )
    add_records_flags(parser)
    add_pool_flags(parser)
    add_query_flags(parser, count=True)
    group = add_attack_flags(parser)
    group.add_argument(
        "--population",
        metavar="DATA",
        help="for rmia: more records that the model never saw (default: some non-members)",
    )
    group.add_argument("--population-split", metavar="NAME", help="which split of them (default: test if there is one)")


def run(arguments: argparse.Namespace) -> int:
    """Audit, or tell what an audit would cost."""
    from ...core.progress import Progress
    from ...studies.membership import forecast_members, study_members

    if (arguments.model is None) == (arguments.answers is None):
        raise SettingError(
            "Give --model, the model to examine, or --answers, a file with the answers of a black box; "
            f"{'not both' if arguments.model else 'neither was given'}."
        )
    members, nonmembers = read_records(arguments)
    target, recipe = audited(arguments, members, nonmembers)
    what: dict[str, Any] = {
        **pool_words(arguments, recipe),
        **study_words(arguments),
        "attacks": arguments.attacks,
        "queries": arguments.queries,
        "augment": arguments.augment,
    }
    if arguments.population is not None:
        what["population"] = read_split(arguments, arguments.population, arguments.population_split)
    fit_threads(members)
    if arguments.dry_run:
        return tell_cost(forecast_members(target, members, nonmembers, **what), recipe)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        study = study_members(target, members, nonmembers, progress=progress, **what)
    return conclude(study)


def audited(arguments: argparse.Namespace, members: Dataset, nonmembers: Dataset) -> tuple[Target | BlackBox, Any]:
    """The model under audit, or its answers, and the recipe of its shadow models."""
    if arguments.answers is None:
        target = read_target(arguments, members)
        check_training_data(arguments, target, members)
        return target, read_pool_recipe(arguments, target)
    from ...membership.files import read_target_answers
    from ...studies.membership import BlackBox

    recipe = read_pool_recipe(arguments, None)
    found = read_target_answers(arguments.answers, len(members), len(nonmembers))
    return BlackBox(members=found.members, nonmembers=found.nonmembers, kind=found.kind, name=found.name), recipe
