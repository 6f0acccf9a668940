"""How a model was trained, as the record in its folder says: what shadow models must imitate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import AssayError, ModelError
from ..core.files import read_json
from ..core.methods import cards, settings_of
from ..core.settings import build

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training.job import TrainSettings
    from ..training.recipe import Recipe

RECORD, PRIVACY = "run.json", "privacy.json"
BUILT_IN = ("digits",)


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """A training: recipe, network and settings, and on which data, as far as a record tells.

    Args:
        recipe: what is minimised.
        network: key of a reference network.
        settings: epochs, optimiser and the like.
        data: the training data as the record describes them; empty where there is no record.
        seconds: what the training took.
        remarks: plain sentences on what shadow models cannot imitate.
    """

    recipe: Recipe
    network: str
    settings: TrainSettings
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def augment(self) -> str:
        """How the training changed its images."""
        return self.settings.augment


def trained_as(folder: str | Path | None) -> Training | str:
    """The training of a run folder, or why there is none to imitate, in one sentence.

    Args:
        folder: of an 'assay train' run; None for a model from elsewhere.

    Raises:
        ModelError: the record is damaged.
    """
    if folder is None or not (Path(folder) / RECORD).is_file():
        return "the model comes without the record of its training (it is no folder of 'assay train')"
    record = read_json(Path(folder) / RECORD)
    try:
        name, resolved = str(record["method"]["name"]), record["settings"]["resolved"]
        data, seconds = dict(record["data"]), float(record["cost"]["seconds"])
        given, network, training = dict(resolved["recipe"]), str(resolved["network"]), dict(resolved["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{str(Path(folder) / RECORD)!r} is damaged: it lacks {error}. Repeat the 'assay train' command."
        ) from error
    return _training(name, given, network, training, data, seconds)


def _training(
    name: str, given: dict[str, Any], network: str, training: dict[str, Any], data: dict[str, Any], seconds: float
) -> Training | str:
    from ..training.job import TrainSettings

    known = {item.name: item for item in cards("recipe")}
    if name not in known:
        return f"the model was trained by {name!r}, a recipe from outside Assay that shadow models cannot repeat"
    remarks = []
    if training.get("select", "last") != "last":
        remarks.append(
            f"The weights of the model were chosen by the validation metric {training['select']!r}; shadow models keep "
            "their last weights."
        )
    training |= {"select": "last", "watch": 0, "checkpoint_every": 0, "validate_every": 1}
    try:
        recipe: Any = build(settings_of(known[name]), given)
        settings = build(TrainSettings, training)
    except AssayError as error:
        return f"the recipe {name!r} of the model cannot be repeated ({error})"
    return Training(
        recipe=recipe, network=network, settings=settings, data=data, seconds=seconds, remarks=tuple(remarks)
    )


def training_data(training: Training) -> Dataset | None:
    """The training data, where they are built in and still those of the record."""
    from ..data import load_data

    about = training.data
    if about.get("source") not in BUILT_IN:
        return None
    try:
        data = load_data(str(about["source"]), split=str(about["split"]), limit=int(about["n"]))
    except (AssayError, KeyError, ValueError, TypeError):
        return None
    return data if same_data(data, about) else None


def same_data(data: Dataset, about: dict[str, Any]) -> bool:
    """Whether data are those that a record describes."""
    return data.digest == about.get("digest")


def stated_epsilon(folder: str | Path | None) -> tuple[float, float] | None:
    """ε and δ that a private training states, the smallest of its valid upper bounds; None where it states none."""
    if folder is None or not (Path(folder) / PRIVACY).is_file():
        return None
    content = read_json(Path(folder) / PRIVACY)
    spent = content.get("epsilon", {}) if isinstance(content, dict) else {}
    bounds = [float(spent[name]) for name in ("rdp", "prv") if isinstance(spent.get(name), int | float)]
    delta = content.get("delta") if isinstance(content, dict) else None
    return (min(bounds), float(delta)) if bounds and isinstance(delta, int | float) else None
