"""Train the shadow models of 'assay members audit' alone, such as on several computers that share a disk.

examples:
  assay members pool --model runs/model --data train.npz --nonmembers test.npz --pools /shared/pools --workers 8
  assay members pool --recipe recipe.yaml --data digits --shadows 32 --pools runs/pools

Run the same command wherever there is time: each takes models that nobody else is training, and ends when all are
there. 'assay members audit' and 'canary' with the same records, recipe, --shadows, --design and --seed, and the same
--pools, then find them trained.

exit codes: 0 done, 2 bad input, 3 not finished: the same command goes on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...core.errors import SettingError
from ..common import seed_number
from .flags import add_pool_flags, add_records_flags, read_pool_recipe, read_records, workers_of

if TYPE_CHECKING:
    from ...studies.recipes import PoolRecipe

OUT = "runs/members"


def flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay members pool``."""
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    parser.add_argument("--model", metavar="RUN", help="a training whose record says how, in the place of --recipe")
    add_records_flags(parser)
    add_pool_flags(parser, pools=f"{OUT}/pools")


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, or tell what that would cost."""
    import tempfile
    from pathlib import Path

    from ...core.progress import Progress
    from ...membership.universe import join
    from ...pools import Pool

    recipe = _recipe(arguments)
    universe = join(*read_records(arguments))

    def plan(root: str | Path) -> Pool:
        return Pool.cached(
            root,
            data=universe.data,
            recipe=recipe.recipe,
            network=recipe.network,
            settings=recipe.settings,
            models=arguments.shadows,
            design=arguments.design,
            seed=arguments.seed,
            method=arguments.method,
        )

    print(f"Shadow models: {recipe}.")
    if arguments.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            pool = plan(folder)
            there = Path(arguments.pools) / pool.id
            known = Pool.open(there) if (there / "pool.json").is_file() else pool
            print(f"{_capital(str(known.forecast(workers_of(arguments))))}.\nNothing was written.")
        return 0
    pool = plan(arguments.pools)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        pool.train(arguments.executor, workers=arguments.workers, threads=arguments.threads, progress=progress)
    print(f"Pool: {pool.folder}, {len(pool)} models")
    return 0


def _recipe(arguments: argparse.Namespace) -> PoolRecipe:
    if (arguments.recipe is None) == (arguments.model is None):
        raise SettingError(
            "Give --recipe, a file that says how the models are trained, or --model, a training like it."
        )
    if arguments.model is not None:
        arguments.recipe = arguments.model.removeprefix("run:")
    return read_pool_recipe(arguments, None)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
