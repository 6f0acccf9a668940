"""Flags that the actions of ``assay members`` share: records, reference models, attacks and evidence."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from ...core.errors import SettingError
from ..common import add_data_flags, note, numbers, seed_number, whole
from ..train import training_data

if TYPE_CHECKING:
    from ...data.dataset import Dataset
    from ...studies.recipes import PoolRecipe
    from ...subjects.target import Target

EXECUTORS = ("local", "in-process", "ray")
METHODS = ("auto", "sequential", "batched")
AUGMENTS = ("none", "mirror", "crop-flip")
MEMBERS_HELP = (
    "the records that the model was trained with: digits (built in), an .npz, .parquet or .csv file, a folder"
)


def add_records_flags(parser: argparse.ArgumentParser) -> None:
    """Members and non-members, read in the same way."""
    add_data_flags(parser, default=None, default_split="train if there is one", help=MEMBERS_HELP)
    parser.add_argument("--limit", type=whole, metavar="N", help="use the first N of the members (default: all)")
    group = parser.add_argument_group("non-members, read with the same keys")
    group.add_argument(
        "--nonmembers",
        metavar="DATA",
        help="records of the same kind that the model never saw; 0.1%% of false positives needs 1,000 "
        "(default: the test split of --data)",
    )
    group.add_argument("--nonmembers-split", metavar="NAME", help="which split (default: test if there is one)")
    group.add_argument("--nonmembers-limit", type=whole, metavar="N", help="use the first N (default: all)")


def add_pool_flags(parser: argparse.ArgumentParser, *, pools: str | None = None) -> None:
    """How reference models are trained, how many, and where; ``pools`` is the folder of pools where not OUT/pools."""
    group = parser.add_argument_group("shadow models")
    group.add_argument(
        "--recipe",
        metavar="FILE",
        help="how the model was trained: a YAML file, or the folder of a training (default: the record of --model)",
    )
    group.add_argument("--shadows", type=whole, default=64, metavar="M", help="how many to train (default: 64)")
    group.add_argument(
        "--design",
        default="half",
        metavar="NAME",
        help="who sees which record: half (of the models see each), pairs, or share:0.3 (default: half)",
    )
    group.add_argument(
        "--pools",
        default=pools,
        metavar="FOLDER",
        help=f"folder of pools that several audits share (default: {pools or 'OUT/pools'})",
    )
    group.add_argument(
        "--executor", choices=EXECUTORS, default="local", help="local: processes here; ray: a Ray cluster"
    )
    group.add_argument(
        "--workers", type=whole, metavar="N", help="processes at once (default: as many as there are cores)"
    )
    group.add_argument("--threads", type=whole, default=1, metavar="N", help="threads of each (default: 1)")
    group.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="train models one by one, or many in a batch; auto measures which is faster (default: auto)",
    )


def add_query_flags(parser: argparse.ArgumentParser, *, count: bool) -> None:
    """How a record is shown to the models."""
    group = parser.add_argument_group("queries")
    if count:
        group.add_argument(
            "--queries", type=whole, default=1, metavar="K", help="the image itself, and K - 1 variants (default: 1)"
        )
    group.add_argument(
        "--augment", choices=AUGMENTS, help="how variants differ (default: as the shadow models were trained)"
    )


def add_attack_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which attacks, and what is told of them; the group, for more."""
    group = parser.add_argument_group("attacks")
    group.add_argument(
        "--attacks",
        type=names,
        default=(),
        metavar="NAME[:SETTINGS],...",
        help="from 'assay ls inference', such as lira,rmia or 'lira:mode=offline;sided=two' (default: the usual ones)",
    )
    add_evidence_flags(group)
    return group


def add_evidence_flags(group: argparse._ActionsContainer) -> None:
    """Error rates and priors."""
    group.add_argument(
        "--fpr",
        type=numbers,
        default=(0.001, 0.01),
        metavar="P[,P...]",
        help="false positive rates at which members are counted (default: 0.001,0.01)",
    )
    group.add_argument(
        "--priors",
        type=numbers,
        default=(0.5, 0.1, 0.01),
        metavar="P[,P...]",
        help="shares of members among the suspects, for the precision of accusations (default: 0.5,0.1,0.01)",
    )


def add_study_flags(parser: argparse.ArgumentParser, out: str, *, cost: bool = True) -> None:
    """Claims, seed, folder and progress."""
    parser.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="CLAIM",
        help="what must hold, such as 'tpr_at_0.01_fpr@lira <= 0.05'; may be repeated",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument("--out", default=out, metavar="FOLDER", help=f"folder for the results (default: {out})")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")
    if cost:
        parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
        parser.add_argument(
            "--batch-size", type=whole, default=256, metavar="N", help="samples at a time (default: 256)"
        )


def names(text: str) -> tuple[str, ...]:
    """``"lira,rmia"`` as names."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; names such as lira,rmia are needed")
    return found


def read_records(arguments: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Members and non-members, as the flags say.

    Raises:
        SettingError: no non-members are named, and the data have one split only.
        DataError: data cannot be read.
    """
    members = training_data(arguments)
    nonmembers = read_split(
        arguments, arguments.nonmembers or arguments.data, arguments.nonmembers_split, arguments.nonmembers_limit
    )
    if arguments.nonmembers is arguments.nonmembers_split is None and nonmembers.split == members.split:
        raise SettingError(
            f"{arguments.data!r} has no other split than {members.split!r}, so there is nothing the model has not "
            "seen. Name records that it never saw with --nonmembers, or a split with --nonmembers-split."
        )
    return members, nonmembers


def read_split(arguments: argparse.Namespace, spec: str, split: str | None, limit: int | None = None) -> Dataset:
    """Other data than ``--data``, read with the same keys."""
    from ...data import load_data

    return load_data(
        spec,
        split=split,
        images_key=arguments.images_key,
        labels_key=arguments.labels_key,
        group=arguments.group,
        limit=limit,
        image_size=arguments.image_size,
    )


def read_pool_recipe(arguments: argparse.Namespace, target: Target | None) -> PoolRecipe:
    """How the reference models are trained: as ``--recipe`` says, else as the model itself was.

    Raises:
        SettingError: nothing says how.
    """
    from ...studies.recipes import EXAMPLE, read_recipe, recipe_of_run

    if arguments.recipe is not None:
        return _remarked(read_recipe(arguments.recipe))
    if target is None or target.folder is None:
        what = "A black box" if target is None else f"The model {arguments.model!r}"
        raise SettingError(
            f"{what} does not say how it was trained, and shadow models must be trained alike. Say it in a file, as "
            f"well as you know, and give it with --recipe. Such as:\n\n{EXAMPLE}"
        )
    return _remarked(recipe_of_run(target.folder))


def _remarked(recipe: PoolRecipe) -> PoolRecipe:
    for remark in recipe.notes:
        note(f"note: {remark}")
    return recipe


def pool_words(arguments: argparse.Namespace, recipe: PoolRecipe) -> dict[str, Any]:
    """The arguments of a study that say how its pool is trained; without ``--recipe``, as the target's record says."""
    given = {"recipe": recipe.recipe, "network": recipe.network, "training": recipe.settings}
    return {
        **(given if arguments.recipe is not None else {}),
        "shadows": arguments.shadows,
        "design": arguments.design,
        "method": arguments.method,
        "pools": arguments.pools,
        "executor": arguments.executor,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "batch_size": arguments.batch_size,
    }


def workers_of(arguments: argparse.Namespace) -> int:
    """Models that are trained at once, as far as that is known beforehand."""
    if arguments.executor == "in-process":
        return 1
    from ...pools.executors.processes import cores

    return int(arguments.workers or max(1, cores() // arguments.threads))


def study_words(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of every study of membership; claims are read here, before anything is written."""
    from ...core.claims import parse_claim

    for claim in arguments.claim:
        parse_claim(claim)
    return {
        "fprs": arguments.fpr,
        "priors": arguments.priors,
        "out": arguments.out,
        "seed": arguments.seed,
        "claims": arguments.claim,
        "command": arguments.command,
    }


def check_training_data(arguments: argparse.Namespace, target: Target, members: Dataset) -> None:
    """A remark where the record of the model names other training data."""
    from ...core.files import read_json

    if target.folder is None or arguments.limit is not None or not os.path.isfile(target.folder / "run.json"):
        return
    record = read_json(target.folder / "run.json")
    told = record.get("data") if isinstance(record, dict) else None
    if isinstance(told, dict) and told.get("digest") not in (None, members.digest):
        note(
            f"warning: {str(target.folder)!r} was trained on {told.get('name')} ({told.get('split')}, n = "
            f"{told.get('n'):,}), and --data are {members.name} ({members.split}, n = {len(members):,}), which is not "
            "the same. Records that it was not trained with are no members, and make an attack look weak."
        )
