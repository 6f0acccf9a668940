"""Weight files: safetensors, or torch files of plain tensors. Nothing is ever unpickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..core.errors import ModelError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIX = "module."
SHOWN = 5


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name.

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth``, ``.bin`` holding a state dict, alone or
            under ``"state_dict"``, ``"model_state_dict"`` or ``"model"``. The prefix
            ``module.`` that DataParallel adds is removed.

    Raises:
        ModelError: missing, damaged, of another kind, or a pickle with more than tensors in it.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"The weight file {str(path)!r} has the suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}."
        )
    if not path.is_file():
        raise ModelError(f"There is no weight file {str(path)!r}. Check the path.")
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{str(path)!r} is truncated, damaged or not safetensors: {error}. Copy or export it again."
            ) from error
    return _state_dict(_read_torch(path), path)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Put weights into a module; every key and shape must match.

    Raises:
        ModelError: lists the first missing, unexpected and misshapen keys; the module is left as it was.
    """
    own = module.state_dict()
    # BatchNorm counters matter only to a training without momentum; files from other tools leave them out.
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in own]
    shapes = [
        f"{key} is {tuple(weights[key].shape)} in the file and {tuple(own[key].shape)} in the model"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    problems = [
        f"{len(found)} {kind} ({', '.join(found[:SHOWN])}{', ...' * (len(found) > SHOWN)})"
        for kind, found in (("keys missing", missing), ("keys unexpected", unexpected), ("shapes differ", shapes))
        if found
    ]
    if problems:
        raise ModelError(
            f"The weights of {where} do not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Build the network the weights were trained with, or rename the keys of the file."
        )
    module.load_state_dict({**own, **weights})


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{str(path)!r} is a pickle that holds more than tensors, or is damaged, and was not opened: loading it "
            "could run code. Where you trust it, convert it once with the program that made it: "
            'python -c "import torch; from safetensors.torch import save_model; '
            f"save_model(torch.load('{path.name}', weights_only=False), '{path.stem}.safetensors')\""
        ) from error
    except Exception as error:  # a damaged archive surfaces as almost any error
        raise ModelError(f"{str(path)!r} is truncated or damaged: {error}. Copy or export it again.") from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(
            f"{str(path)!r} holds {type(content).__name__}, not a state dict of tensors. "
            "Save it with torch.save(model.state_dict(), path) or safetensors.torch.save_file."
        )
    plain = all(str(key).startswith(PREFIX) for key in content)
    return {str(key)[len(PREFIX) if plain else 0 :]: value for key, value in content.items()}
