"""load_target: from a name, a folder or a factory to a Target."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from ..core.errors import ModelError, SettingError, did_you_mean
from ..core.files import read_json
from .dense_tasks import Depth, Segmentation
from .networks import NETWORKS, build_network, reference
from .target import Target
from .tasks import Classification, Normalize
from .weights import load_weights, read_weights

KINDS = {
    "hf": "hf:DIR or hf:ORG/NAME, a transformers image classifier",
    "python": "python:MODULE:FACTORY, a function that returns a torch.nn.Module",
    "run": "run:DIR (or just DIR), a training of Assay",
    "network": f"network:NAME, a reference network ({', '.join(NETWORKS)})",
}
DENSE_TASKS = ("segmentation", "depth")
MODEL, WEIGHTS = "model.json", "model.safetensors"
MODEL_FIELDS = ("network", "in_channels", "num_classes", "image_size", "mean", "std", "bounds")

Numbers = Sequence[float]


@overload
def load_target(
    spec: str,
    *,
    task: None = None,
    weights: str | None = None,
    num_classes: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: Numbers | None = None,
    std: Numbers | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Target: ...


@overload
def load_target(
    spec: str,
    *,
    task: Segmentation | Depth | str,
    weights: str | None = None,
    num_classes: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: Numbers | None = None,
    std: Numbers | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Target[Any]: ...


def load_target(
    spec: str,
    *,
    task: Segmentation | Depth | str | None = None,
    weights: str | None = None,
    num_classes: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: Numbers | None = None,
    std: Numbers | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Target[Any]:
    """A model by name, with its normalisation inside.

    Args:
        spec: ``"hf:<folder or id>"``, ``"python:module:factory"``, ``"run:<folder>"`` or the
            folder alone, ``"network:<name>"``.
        task: ``Segmentation(...)``, ``Depth(...)``, ``"segmentation"`` or ``"depth"`` for ``hf:`` and
            ``python:`` models of another kind than classifiers.
        weights: weight file for ``python:`` and ``network:``; .safetensors, or .pt under ``weights_only``.
        num_classes: outputs of the model. Needed for ``python:``; for ``network:`` 10 if not given.
        bounds: box of raw inputs.
        mean, std: normalisation in units of the raw input, one value a channel. Default: what the
            model brings along (processor configuration, run, published weights), else none.
        image_shape: (channels, height, width) of the images that will be examined. Builds
            ``network:``, and is checked against what other models expect.

    Raises:
        ModelError, SettingError: it cannot be loaded; the message says why and what to do.
        MissingExtra: ``hf:`` without transformers.

    >>> load_target("network:linear", image_shape=(1, 8, 8)).describe()["parameters"]
    650
    """
    kind, rest = _kind(str(spec))
    if (mean is None) != (std is None):
        raise SettingError(f"mean is {mean!r} and std is {std!r}; give both or neither.")
    given = Normalize(mean, std) if mean is not None and std is not None else None
    if kind in ("hf", "run") and weights is not None:
        raise SettingError(f"weights is {weights!r}, but {spec!r} brings its own; leave weights out.")
    if task is not None:
        return _dense(spec, kind, rest, task, weights, num_classes, bounds, given, image_shape)
    if kind == "hf":
        from .huggingface import load_classifier

        return load_classifier(rest, num_classes=num_classes, bounds=bounds, preprocess=given, image_shape=image_shape)
    if kind == "run":
        return _from_run(rest, preprocess=given, image_shape=image_shape)
    if kind == "python":
        if num_classes is None:
            raise SettingError(f"num_classes is missing; {spec!r} does not say how many classes its model has.")
        return _from_factory(rest, Classification(num_classes), weights=weights, bounds=bounds, preprocess=given)
    return _from_network(rest, weights, num_classes or 10, bounds, given, image_shape)


def _dense(
    spec: str,
    kind: str,
    rest: str,
    task: Segmentation | Depth | str,
    weights: str | None,
    num_classes: int | None,
    bounds: tuple[float, float],
    given: Normalize | None,
    image_shape: tuple[int, int, int] | None,
) -> Target[Any]:
    name = task if isinstance(task, str) else getattr(task, "name", type(task).__name__)
    if name not in DENSE_TASKS:
        raise SettingError(f"task is {name!r}; allowed: {', '.join(DENSE_TASKS)}; leave it out for a classifier.")
    if kind == "hf":
        from .huggingface_dense import load_dense_model

        return load_dense_model(
            rest, task, num_classes=num_classes, bounds=bounds, preprocess=given, image_shape=image_shape
        )
    if kind != "python":
        raise ModelError(
            f"{spec!r} is a classifier, and a model for {name} is needed: hf: and python: can load one, and "
            "'assay train probe' makes one from an encoder."
        )
    if task == "segmentation" and num_classes is None:
        raise SettingError(f"num_classes is missing; {spec!r} does not say how many classes its model has.")
    if isinstance(task, str):
        task = Depth() if task == "depth" else Segmentation(num_classes or 0)
    return _from_factory(rest, task, weights=weights, bounds=bounds, preprocess=given)


def _kind(spec: str) -> tuple[str, str]:
    kind, colon, rest = spec.partition(":")
    if colon and kind in KINDS and rest:
        return kind, rest
    if spec and Path(spec).is_dir():
        return "run", spec
    if spec.replace("_", "-") in NETWORKS:
        raise ModelError(f"There is no folder {spec!r}. For the reference network write 'network:{spec}'.")
    hint = did_you_mean(kind, KINDS) if colon else ""
    raise ModelError(
        f"Cannot tell what the model {spec!r} is: no folder has this name.{hint} Allowed: {'; '.join(KINDS.values())}."
    )


def _from_network(
    name: str,
    weights: str | None,
    num_classes: int,
    bounds: tuple[float, float],
    given: Normalize | None,
    image_shape: tuple[int, int, int] | None,
) -> Target:
    entry = reference(name)
    channels, height, width = image_shape or (3, 32, 32)
    fork = torch.random.fork_rng(devices=[])
    with fork:
        torch.manual_seed(0)
        network = build_network(name, in_channels=channels, num_classes=num_classes, image_size=(height, width))
    if weights is not None:
        load_weights(network, read_weights(weights), where=repr(str(weights)))
    published = entry.mean is not None and entry.std is not None and len(entry.mean) == channels
    default = Normalize(entry.mean, entry.std) if published and entry.mean and entry.std else None
    return Target(
        network.eval(),
        task=Classification(num_classes),
        bounds=bounds,
        preprocess=given or default,
        name=name,
        source=f"network:{name}" + (f" with {Path(weights).name}" if weights else " with random weights"),
    )


def _from_run(folder: str, *, preprocess: Normalize | None, image_shape: tuple[int, int, int] | None) -> Target:
    path = Path(folder)
    if not (path / MODEL).is_file() or not (path / WEIGHTS).is_file():
        raise ModelError(
            f"{folder!r} holds no finished training: {MODEL} and {WEIGHTS} are needed. "
            "Repeat the 'assay train' command to finish it, or write 'hf:FOLDER' for a transformers model."
        )
    about = read_json(path / MODEL)
    if isinstance(about, dict) and about.get("kind") == "causal-lm":
        raise ModelError(f"{folder!r} holds a language model, and images are to be classified. See 'assay watermark'.")
    lacking = [name for name in MODEL_FIELDS if not isinstance(about, dict) or name not in about]
    if lacking:
        raise ModelError(f"{str(path / MODEL)!r} is damaged: it lacks {', '.join(lacking)}. Repeat the training.")
    try:
        channels, (height, width), classes = about["in_channels"], about["image_size"], about["num_classes"]
        network = _unseeded(about["network"], channels, classes, (height, width))
        normalize = preprocess or Normalize(about["mean"], about["std"])
        low, high = about["bounds"]
    except (TypeError, ValueError) as error:
        raise ModelError(f"{str(path / MODEL)!r} is damaged: {error}. Repeat the training.") from error
    load_weights(network, read_weights(path / WEIGHTS), where=repr(str(path / WEIGHTS)))
    fits = image_shape is None or image_shape == (channels, height, width)
    if not fits and image_shape is not None:
        raise ModelError(
            f"The model of {folder!r} takes images of {channels}x{height}x{width}, the data have "
            f"{'x'.join(str(side) for side in image_shape)}; choose data of that shape."
        )
    target = Target(
        network.eval(),
        task=Classification(classes),
        bounds=(low, high),
        preprocess=normalize,
        name=path.resolve().name,
        source=f"run:{path.resolve().name}",
    )
    target.folder = path
    return target


def _unseeded(name: str, channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """A network whose first weights will be replaced; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        return build_network(name, in_channels=channels, num_classes=classes, image_size=size)


def _from_factory(
    spec: str, task: Any, *, weights: str | None, bounds: tuple[float, float], preprocess: Normalize | None
) -> Target[Any]:
    model = build_from_factory(spec)
    if weights is not None:
        load_weights(model, read_weights(weights), where=repr(str(weights)))
    return Target(
        model,
        task=task,
        bounds=bounds,
        preprocess=preprocess,
        name=spec.rpartition(":")[2],
        source=f"python:{spec}" + (f" with {Path(weights).name}" if weights else ""),
    )


def build_from_factory(spec: str) -> nn.Module:
    """The module that ``MODULE:FACTORY`` returns; ModelError names what is wrong with it.

    Args:
        spec: module, colon, function without arguments (or a module that is ready).
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise ModelError(
            f"The model 'python:{spec}' names no factory; write python:MODULE:FACTORY, such as python:mynet:build."
        )
    return _made(_attribute(_module(module_name), attribute, module_name), spec)


def _module(name: str) -> Any:
    with _current_folder():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise ModelError(
                    f"There is no Python module {name!r}, neither in the current folder nor installed."
                ) from error
            raise ModelError(
                f"The module {name!r} needs {error.name!r}, which is not installed. Install it."
            ) from error
        except Exception as error:  # the user's own code runs here and may raise anything
            raise ModelError(f"The module {name!r} cannot be imported: {type(error).__name__}: {error}.") from error


def _attribute(module: Any, name: str, module_name: str) -> Any:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [other for other in dir(found) if not other.startswith("_")]
            raise ModelError(f"The module {module_name!r} has no {name!r}.{did_you_mean(part, known)}")
        found = getattr(found, part)
    return found


def _made(factory: Any, spec: str) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise ModelError(
            f"'python:{spec}' is a {type(factory).__name__}; a function that returns a torch.nn.Module is needed."
        )
    try:
        model = factory()
    except Exception as error:  # the user's own code runs here and may raise anything
        raise ModelError(
            f"'python:{spec}' failed: {type(error).__name__}: {error}. The factory is called without arguments."
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"'python:{spec}' returned a {type(model).__name__}; a torch.nn.Module is needed.")
    return model


@contextmanager
def _current_folder() -> Iterator[None]:
    """Modules of the current folder can be imported inside, as ``python -m`` would."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
