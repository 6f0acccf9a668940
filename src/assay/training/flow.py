"""Where a recipe's step would move the weights of a model: the direction of its gradient flow."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import DataError, SettingError, Unsupported
from ..subjects.target import Target
from ..tensors.random import bits, sample_seeds
from .batches import Batch
from .inner import BOUNDS
from .job import TrainSettings
from .recipe import Recipe
from .state import TrainState
from .surroundings import undisturbed


def flow(
    recipe: Recipe,
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    step: int = 0,
    steps_per_epoch: int = 1,
    seed: int = 0,
    sample_ids: Any = None,
    settings: TrainSettings | None = None,
) -> dict[str, Tensor]:
    """-∇_θ L of a recipe's step on one batch: θ'(t) under gradient flow.

    The step runs as in training, random starts and BatchNorm in training mode
    included, on a private copy; the target and the caller's random state are
    left as they are. Momentum, weight decay and clipping of gradients have no part in it.

    Args:
        recipe: settings of a recipe, such as ``Adversarial(steps=5)``.
        target: the model, with bounds (0, 1).
        images: raw images [N, C, H, W] in [0, 1], all of them one batch.
        labels: class indices [N].
        step: steps of training taken before, for recipes that change on the way.
        steps_per_epoch: of that training, likewise.
        seed: root of the random streams.
        sample_ids: [N] numbers the samples' streams belong to; default: their places.
        settings: of that training; default: ``TrainSettings()``.

    Returns:
        One tensor for each of ``target.model.named_parameters()``, by its name.

    Raises:
        Unsupported: the recipe draws its batches itself, as private training does.
        SettingError, DataError: what was given cannot be stepped on.

    Cost: one step of the recipe on N samples.
    """
    twin = _copy(recipe, target)
    images = target.check_images(images).to(target.device)
    labels = target.check_labels(labels, len(images)).to(target.device)
    count, epoch = len(images), step // max(1, steps_per_epoch)
    ids = list(range(count)) if sample_ids is None else torch.as_tensor(sample_ids).tolist()
    if len(ids) != count:
        raise DataError(f"sample_ids has {len(ids)} entries for {count} images; one an image is needed.")
    seeds = bits(sample_seeds(seed, ids, "training"), 1, epoch)[:, 0].to(target.device)
    batch = Batch(images, labels, seeds, torch.ones(count, device=target.device), count, torch.arange(count))
    with undisturbed(target.device):
        state = TrainState(
            _Alone(target.device),
            _Logits(twin),
            copy.deepcopy(target.preprocess) or nn.Identity(),
            settings or TrainSettings(),
            steps_per_epoch=max(1, steps_per_epoch),
            seed=seed,
        )
        state.step = step
        state.begin_step()
        recipe.step(state, batch)
    return {
        name: torch.zeros_like(value, requires_grad=False) if value.grad is None else -value.grad
        for name, value in twin.named_parameters()
    }


@dataclass(frozen=True)
class _Alone:
    """What a :class:`TrainState` asks of Accelerate, for one process."""

    device: torch.device
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        return tensor


class _Logits(nn.Module):
    """A model whose answer is the tensor of logits, also where it returns an object that holds them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.inner(inputs)
        logits: Tensor = getattr(output, "logits", output)
        return logits


def _copy(recipe: Recipe, target: Target) -> nn.Module:
    """The model to step on; an error where there is nothing that could be stepped on."""
    if not recipe.product.labelled:
        raise Unsupported(
            f"{type(recipe).__name__} trains an encoder, and a target that answers classes has no part in its step. "
            "Use a recipe for classifiers."
        )
    if type(recipe).batches is not Recipe.batches:
        raise Unsupported(
            f"{type(recipe).__name__} draws its batches itself, so it has no step on images that are given. "
            "Use the difference between the weights before and after one of its steps."
        )
    if not isinstance(target.model, nn.Module) or not list(target.model.parameters()):
        raise SettingError("The target's model has no parameters; a torch.nn.Module with weights to move is needed.")
    if target.bounds != BOUNDS:
        raise SettingError(
            f"The target's bounds are {target.bounds}; recipes train on images in {BOUNDS}. Put any scaling into "
            "Target(preprocess=...)."
        )
    return copy.deepcopy(target.model).requires_grad_(True)
