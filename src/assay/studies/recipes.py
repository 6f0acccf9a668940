"""Recipes as files: how the reference models of a study are trained, as a short YAML file.

    recipe: standard
    network: small-cnn
    settings: {label_smoothing: 0.0}
    training: {epochs: 30, learning_rate: 1/10, augment: crop-flip}

Only ``recipe`` is needed. Everything is checked at once; an unknown name is an error that says which was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import ModelError, RunError, SettingError, did_you_mean
from ..core.methods import MethodCard, cards, settings_of
from ..core.settings import as_dict, build
from .reading import read_yaml_file

if TYPE_CHECKING:
    from ..training.job import TrainSettings
    from ..training.recipe import Recipe

T = TypeVar("T")

KEYS = ("recipe", "network", "settings", "training")
EXAMPLE = """\
recipe: standard
network: small-cnn
training: {epochs: 30, batch_size: 128, learning_rate: 0.1}"""


@dataclass(frozen=True, kw_only=True)
class PoolRecipe:
    """How a model is trained: what ``Pool.plan`` takes.

    Args:
        name: of the recipe, as ``assay ls recipe`` lists it.
        recipe: its settings.
        network: a key of ``assay.subjects.NETWORKS``.
        settings: epochs, batch size, optimiser and the like.
        notes: what was left out of a record, in sentences.
    """

    name: str
    recipe: Recipe
    network: str
    settings: TrainSettings
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The content of the file that says the same, with every default written out."""
        return {
            "recipe": self.name,
            "network": self.network,
            "settings": as_dict(self.recipe),
            "training": as_dict(self.settings),
        }

    def __str__(self) -> str:
        return f"{self.name}, {self.network}, {self.settings.epochs:,} epochs"


def read_recipe(path: str | Path) -> PoolRecipe:
    """The recipe in a YAML file, or that of a finished training by its folder.

    Args:
        path: a file such as the example above, or the folder of ``assay train``.

    Raises:
        SettingError: what is wrong in the file, at which key, and what is allowed.
        RunError: the folder holds no training that can be repeated.
    """
    path = Path(path)
    if path.is_dir():
        return recipe_of_run(path)
    if not path.exists():
        raise SettingError(f"There is no recipe file {str(path)!r}. Write one, such as:\n\n{EXAMPLE}")
    return parse_recipe(read_yaml_file(path), where=str(path))


def parse_recipe(value: Any, *, where: str = "the recipe") -> PoolRecipe:
    """Check plain values (from YAML) and make a recipe of them.

    >>> parse_recipe({"recipe": "standard", "training": {"learning-rate": "1/20"}}).settings.learning_rate
    0.05
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingError(f"{where} is no mapping of names to values; write it such as:\n\n{EXAMPLE}")
    for key in value:
        if key not in KEYS:
            raise SettingError(f"{where} has the unknown key {key!r}.{did_you_mean(key, KEYS)}")
    if "recipe" not in value:
        raise SettingError(f"{where} names no recipe; write 'recipe: standard', or another of 'assay ls recipe'.")
    named = _named(value["recipe"], f"{where}: recipe")
    return _made(
        named,
        network=value.get("network"),
        settings=_part(value, "settings", where),
        training=_part(value, "training", where),
        where=where,
    )


def recipe_of_run(folder: str | Path) -> PoolRecipe:
    """The recipe by which a run folder of ``assay train`` was made.

    Raises:
        RunError: the folder holds no record of a training of an image classifier by a recipe of Assay.
    """
    from ..membership.trained_as import trained_as

    try:
        found = trained_as(folder)
    except ModelError as error:
        found = str(error).rstrip(".")
    if isinstance(found, str):
        raise RunError(
            f"How {str(folder)!r} was trained is not known: {found}. Say it in a file for --recipe, such as:"
            f"\n\n{EXAMPLE}"
        )
    named = next(item for item in cards("recipe") if settings_of(item) is type(found.recipe))
    _check_kind(named, str(folder))
    return PoolRecipe(
        name=named.name, recipe=found.recipe, network=found.network, settings=found.settings, notes=found.remarks
    )


def _named(name: Any, where: str) -> MethodCard:
    known = {item.name: item for item in cards("recipe")}
    if not isinstance(name, str) or name not in known:
        raise SettingError(f"{where} is {_short(name)}, which is no recipe.{did_you_mean(str(name), known)}")
    return known[name]


def _part(value: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    part = value.get(key)
    if part is None:
        return {}
    if not isinstance(part, Mapping) or not all(isinstance(name, str) for name in part):
        raise SettingError(
            f"{where}: {key} is {_short(part)}; needed is a mapping of names to values, such as {{epochs: 30}}."
        )
    return part


def _made(
    named: MethodCard,
    *,
    network: Any,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    where: str,
) -> PoolRecipe:
    from ..subjects.networks import NETWORKS
    from ..training.job import TrainSettings

    kind: type[Recipe] = settings_of(named)
    _check_kind(named, where)
    network = kind.product.network if network is None else network
    if network not in NETWORKS:
        raise SettingError(
            f"{where}: network is {_short(network)}, which is no reference network."
            f"{did_you_mean(str(network), NETWORKS)}"
        )
    return PoolRecipe(
        name=named.name,
        recipe=_checked(kind, settings, f"{where}: settings"),
        network=network,
        settings=_checked(TrainSettings, {**kind.usual, **training}, f"{where}: training"),
    )


def _check_kind(named: MethodCard, where: str) -> None:
    if not _classifies(named):
        allowed = [item.name for item in cards("recipe") if _classifies(item)]
        raise SettingError(
            f"{where}: the recipe {named.name!r} makes no image classifier; allowed: {', '.join(allowed)}."
        )


def _checked(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    try:
        return build(kind, values)
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from None


def _classifies(item: MethodCard) -> bool:
    kind: type[Recipe] = settings_of(item)
    return kind.product.reads == "images" and kind.product.labelled


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
