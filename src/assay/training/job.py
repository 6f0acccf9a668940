"""What is to be trained: recipe, network, data and settings, checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..core.errors import DataError, SettingError
from ..core.methods import MethodCard, card, cards, settings_of
from ..core.settings import as_dict, build, option, settings
from ..data.dataset import Dataset
from .product import Product
from .recipe import Recipe


@settings
class TrainSettings:
    """How long and how fast; the recipe says what is minimised."""

    epochs: int = option(default=30, help="passes over the training data", at_least=1)
    batch_size: int = option(default=128, help="samples in a step, over all processes together", at_least=1)
    optimizer: str = option(default="sgd", help="sgd with momentum, or adamw", choices=("sgd", "adamw"))
    learning_rate: float = option(default=0.1, help="largest learning rate", above=0)
    momentum: float = option(default=0.9, help="momentum of sgd", at_least=0, below=1)
    nesterov: bool = option(default=True, help="Nesterov's form of sgd's momentum, rather than plain momentum")
    weight_decay: float = option(default=5e-4, help="weight decay", at_least=0)
    schedule: str = option(
        default="cosine", help="learning rate over time", choices=("constant", "cosine", "multistep", "linear")
    )
    warmup_epochs: float = option(default=0.0, help="epochs of rising learning rate at the start", at_least=0)
    ema: float | None = option(
        default=None, help="decay of the weight average that is kept; none: no average", above=0, below=1
    )
    gradient_clip: float | None = option(default=None, help="largest gradient norm; none: no limit", above=0)
    precision: str = option(
        default="fp32", help="arithmetic of the passes; weights stay fp32", choices=("fp32", "bf16")
    )
    augment: str = option(default="none", help="random shifts and mirror images", choices=("none", "crop-flip"))
    validate_every: int = option(default=1, help="epochs between validations", at_least=1)
    select: str = option(
        default="last",
        help="which weights are kept: the last, or the best by a validation metric",
        choices=("last", "accuracy", "loss", "robust_accuracy"),
    )
    checkpoint_every: int = option(default=0, help="steps between checkpoints; 0: one an epoch", at_least=0)
    watch: int = option(
        default=0, help="keep the weights every so many steps, for 'assay dynamics'; 0: never", at_least=0
    )

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise SettingError(
                f"TrainSettings.warmup_epochs is {self.warmup_epochs:g} of {self.epochs} epochs; "
                "allowed: fewer than epochs."
            )


@dataclass(frozen=True)
class Job:
    """One training: what is trained, on what, and how. Raises InputError where that cannot be done."""

    recipe: Recipe
    network: str
    data: Dataset
    validation: Dataset | None
    settings: TrainSettings
    seed: int

    def __post_init__(self) -> None:
        if self.data.holds != self.product.reads:
            raise DataError(
                f"The recipe {self.card.name!r} learns from {self.product.reads}, and the data {self.data.name!r} hold "
                f"{self.data.holds}. Choose another recipe, or other data."
            )
        self.product.check(self)
        if not len(self.data):
            raise DataError("The training data are empty; at least one sample is needed.")
        other = self.validation
        if other is not None and (other.shape, other.class_names) != (self.data.shape, self.data.class_names):
            raise DataError(
                f"Training and validation data do not match: {self.data.holds} {self.data.shape} and {other.shape}, "
                f"{self.data.num_classes} and {other.num_classes} classes. "
                "Both need one shape and the same class names."
            )
        select = self.settings.select
        if select != "last" and other is None:
            raise SettingError(
                f"TrainSettings.select is {select!r}, which needs validation data; give some, or use 'last'."
            )
        if select == "robust_accuracy" and self.recipe.adversary() is None:
            raise SettingError(
                f"TrainSettings.select is 'robust_accuracy', but the recipe {self.card.name!r} has no attack; "
                "use 'accuracy', 'loss' or 'last'."
            )
        if select not in ("last", *self.product.measures):
            raise SettingError(
                f"TrainSettings.select is {select!r}, but the validation of {self.card.name!r} does not measure that; "
                f"allowed: {', '.join(('last', *self.product.measures))}."
            )
        self.recipe.check(self)

    @property
    def product(self) -> Product:
        """What kind of model is made."""
        return self.recipe.product

    @cached_property
    def foundation(self) -> Any:
        """What the training begins with besides its data, loaded once; None for most recipes."""
        return self.recipe.foundation(self)

    @cached_property
    def card(self) -> MethodCard:
        """The method card of the recipe; a recipe from outside Assay gets one with the name of its class."""
        kind = type(self.recipe)
        known = (item for item in cards("recipe") if settings_of(item) is kind)
        summary = (kind.__doc__ or "").partition("\n")[0]
        own = MethodCard(
            name=kind.__name__, kind="recipe", title=kind.__name__, summary=summary, settings=kind.__name__
        )
        return next(known, own)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; the last one may be smaller."""
        return -(-len(self.data) // self.settings.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.settings.epochs

    @cached_property
    def normalization(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, as the model's preprocessing uses them."""
        return self.recipe.normalization(self.data)

    def resolved(self) -> dict[str, Any]:
        """Every setting as used."""
        return {
            "recipe": as_dict(self.recipe),
            "network": self.network,
            "training": as_dict(self.settings),
            "validation": None if self.validation is None else self.validation.digest,
            **self.recipe.identity(self),
        }


def as_recipe(recipe: Recipe | str) -> Recipe:
    """A recipe by name with its default settings, or the one given.

    >>> as_recipe("trades").beta
    6.0
    """
    if isinstance(recipe, str):
        made: Recipe = settings_of(card(recipe, "recipe"))()
        return made
    if not isinstance(recipe, Recipe):
        raise SettingError(
            f"The recipe is a {type(recipe).__name__}; a name or the settings of a recipe are needed, which is a "
            "settings class derived from assay.training.Recipe."
        )
    return recipe


def make_job(
    recipe: Recipe | str,
    *,
    data: Dataset,
    network: str | None = None,
    validation: Dataset | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
) -> Job:
    """A Job with defaults filled in."""
    made = as_recipe(recipe)
    return Job(
        made, network or made.product.network, data, validation, settings or build(TrainSettings, made.usual), seed
    )
