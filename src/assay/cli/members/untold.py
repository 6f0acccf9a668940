"""Scores of records whose truth is not known: a file, a table, and what it does not say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..output import printable, sentences, table

if TYPE_CHECKING:
    from ...membership.files import Precomputed
    from ...membership.ranking import Ranking

TOP = 10


def rank(arguments: argparse.Namespace, found: Precomputed, attacks: Sequence[str]) -> int:
    """Write OUT/scores.csv, print who ranks highest, and say what cannot be told."""
    from ...core.errors import SettingError
    from ...core.files import make_folder, write_atomic
    from ...membership.ranking import Ranking, ranked

    if arguments.claim:
        raise SettingError(
            "--claim needs the truth, who was a member, and none is given. Add the array or column 'member' to "
            "the file, or name it with --member."
        )
    if found.answers is None:
        made = Ranking(scores=found.scores)
    else:
        made = ranked(found.answers, attacks or usual(found), arguments.fpr)
    path = make_folder(arguments.out) / "scores.csv"
    write_atomic(path, made.table({"id": found.sample_ids, "label": found.labels}))
    _show(made, found, path)
    return 0


def usual(found: Precomputed) -> tuple[str, ...]:
    """The attacks for which there is what they need."""
    answers = found.answers
    assert answers is not None
    if found.kind == "predictions":
        return ("gap",)
    if not answers.models:
        return ("loss",)
    return ("lira", "rmia") if answers.population is not None else ("lira",)


def _show(made: Ranking, found: Precomputed, path: Path) -> None:
    import numpy as np

    (name, first), *_ = made.scores.items()
    order = np.argsort(-first, kind="stable")[:TOP]
    labels = found.labels
    rows = [
        [
            str(place),
            "-" if labels is None else str(labels[place]),
            *(f"{one[place]:.4g}" for one in made.scores.values()),
        ]
        for place in order
    ]
    table(f"Likeliest members by {name}", ["record", "label", *made.scores], rows, right=range(2 + len(made.scores)))
    print()
    if made.flagged:
        rows = [
            [attack, f"{fpr:g}", f"{limit:.4g}", f"{count:,}", f"{fpr * len(first):,.3g}"]
            for attack, fpr, limit, count in made.flagged
        ]
        heads = ["attack", "false positive rate", "threshold", "records above", "expected of non-members"]
        table("Above thresholds fixed on the reference models", heads, rows, right=range(1, 5))
        print()
    for finding in made.findings:
        print(printable(f"  {finding.severity}: {finding.message} {finding.remedy}".rstrip()))
    sentences(
        [
            "The truth (member) is not in the file: the scores rank the records, and nothing here says whether the "
            "ranking is right. AUC, true positive rates and a bound on epsilon need records known to be members and "
            "records known not to be.",
            f"Scores of all {len(first):,} records: {path}",
        ]
    )
