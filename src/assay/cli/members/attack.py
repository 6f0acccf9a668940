"""Attack from a file of answers or scores: nothing is trained, and no model is needed.

examples:
  assay members attack --scores answers.npz
  assay members attack --scores answers.npz --attacks lira,rmia --fpr 0.01
  assay members attack --scores scores.csv --claim 'auc@lira <= 0.6'
  assay members attack --scores answers.npz --member truth.csv

An .npz file holds what M reference models and a target answered to N records, to K queries each (which axis may be
left out):

  reference_logits [M, N, K, C]  in_mask [M, N]  target_logits [N, K, C]  labels [N]  and, if it is known, member [N]
  population_reference_logits [M, Z, K, C]  population_target_logits [Z, K, C]  population_labels [Z]  for rmia
  groups [N]  class_names [C]  sample_ids [N]  for the report

with _probabilities in the place of _logits, or _predictions: predicted classes alone, without the axis C. A .csv file,
or an .npz without answers, holds finished scores: a column or array a score, larger for members, beside member.

Without the truth (member) scores are written to OUT/scores.csv: they rank the records, and no more can be told.

exit codes: 0 done, 1 a claim failed, 2 bad input, 3 not finished: the same command goes on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...core.errors import SettingError
from .flags import add_attack_flags, add_study_flags, study_words
from .showing import conclude
from .untold import rank

if TYPE_CHECKING:
    from ...membership.files import Precomputed


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay members attack``."""
    add_study_flags(parser, "runs/members-attack", cost=False)
    group = parser.add_argument_group("answers or scores")
    group.add_argument("--scores", required=True, metavar="FILE", help="an .npz, .csv or .tsv file, see above")
    group.add_argument(
        "--member",
        metavar="NAME|FILE",
        help="array or column that tells the members, or another file with it (default: member, if it is there)",
    )
    add_attack_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Attack, and judge the scores where the truth is known."""
    from ...core.progress import Progress
    from ...membership.files import read_precomputed

    found = read_precomputed(arguments.scores, member=arguments.member)
    attacks = _attacks(arguments, found)
    if found.member is None:
        return rank(arguments, found, attacks)
    from ...studies.membership import study_attack

    with Progress(enabled=not arguments.no_progress) as progress:
        study = study_attack(
            found.scores if found.answers is None else found.answers,
            found.member,
            labels=found.labels,
            groups=found.groups,
            class_names=found.class_names,
            sample_ids=found.sample_ids,
            name=found.name,
            attacks=attacks,
            progress=progress,
            **study_words(arguments),
        )
    return conclude(study)


def _attacks(arguments: argparse.Namespace, found: Precomputed) -> tuple[str, ...]:
    """The attacks that were asked for; predicted classes alone allow one."""
    if found.kind == "scores" and arguments.attacks:
        raise SettingError(
            f"{arguments.scores!r} holds finished scores, so that --attacks has nothing to work on. Leave it out, or "
            "give a file of answers."
        )
    if found.kind == "predictions":
        wrong = [name for name in arguments.attacks if name.partition(":")[0] != "gap"]
        if wrong:
            raise SettingError(
                f"The attack {wrong[0]!r} needs logits or probabilities, and {arguments.scores!r} holds predicted "
                "classes alone. Use --attacks gap, or leave it out."
            )
        return arguments.attacks or ("gap",)
    found_attacks: tuple[str, ...] = arguments.attacks
    return found_attacks
