"""Tasks: what a model is for, and so what counts as a loss, a margin and a success of the adversary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..core.errors import DataError, ModelError, SettingError


class Task(Protocol):
    """What an examination needs to know of a model's purpose."""

    @property
    def name(self) -> str: ...

    def describe(self) -> dict[str, Any]:
        """What a record says besides the name."""

    def answer(self, raw: Any, images: Tensor) -> Tensor:
        """The one tensor that counts of what the model returned for the images."""

    def check_output(self, output: Tensor, batch: int) -> None:
        """Raise ModelError for an answer that cannot be used."""

    def check_references(self, references: Any, images: Tensor) -> Tensor:
        """What answers are compared with, checked, on the CPU; raises DataError."""

    def losses(self, output: Tensor, reference: Tensor) -> Tensor: ...

    def success(self, output: Tensor, reference: Tensor) -> Tensor | None:
        """Whether the adversary has all it can want: [B] bool; None where there is only more and less."""


@dataclass(frozen=True)
class Classification:
    """One of ``num_classes`` classes an input; the model returns logits [B, num_classes].

    Args:
        num_classes: at least 2.
    """

    num_classes: int

    def __post_init__(self) -> None:
        if isinstance(self.num_classes, bool) or not isinstance(self.num_classes, int) or self.num_classes < 2:
            raise SettingError(
                f"Classification.num_classes is {self.num_classes!r}; allowed: a whole number from 2 up."
            )

    @property
    def name(self) -> str:
        """The task's name in records."""
        return "classification"

    def describe(self) -> dict[str, Any]:
        """What a record says besides the name."""
        return {"num_classes": self.num_classes}

    def answer(self, raw: Any, images: Tensor) -> Tensor:
        """The logits: the tensor itself, or the ``.logits`` of what transformers return."""
        logits = getattr(raw, "logits", raw)
        if not isinstance(logits, Tensor):
            raise ModelError(f"The model returned {type(raw).__name__}; a tensor of logits [B, K] is needed.")
        return logits

    def check_references(self, references: Any, images: Tensor) -> Tensor:
        """Labels as int64 [N]; DataError says what is wrong."""
        labels = torch.as_tensor(references).detach().cpu()
        count = len(images)
        if labels.shape != (count,):
            raise DataError(
                f"Labels have shape {tuple(labels.shape)} for {count} images; one class index an image is needed."
            )
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise DataError(f"Labels are {labels.dtype}; whole class indices are needed.")
        labels = labels.to(torch.int64)
        if bool(((labels < 0) | (labels >= self.num_classes)).any()):
            raise DataError(
                f"Labels range from {int(labels.min())} to {int(labels.max())}; "
                f"allowed: 0 to {self.num_classes - 1} for {self.num_classes} classes."
            )
        return labels

    def check_output(self, output: Tensor, batch: int) -> None:
        """Raise ModelError unless ``output`` is a finite floating [batch, num_classes]."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"The model returned {kind}; a classifier must return a floating-point tensor of logits.")
        if tuple(output.shape) != (batch, self.num_classes):
            raise ModelError(
                f"The model returned shape {tuple(output.shape)} for a batch of {batch}; "
                f"({batch}, {self.num_classes}) is needed. Set num_classes to the model's number of outputs, "
                "or wrap the model so that it returns logits [B, num_classes]."
            )
        if not bool(torch.isfinite(output).all()):
            bad = int((~torch.isfinite(output)).any(1).sum())
            raise ModelError(
                f"The model returned NaN or infinity for {bad} of {batch} inputs; finite logits are needed. "
                "Check the weights and the preprocessing (a division by a zero std, inputs in the wrong range)."
            )

    def losses(self, output: Tensor, reference: Tensor) -> Tensor:
        """Cross-entropy of each sample, logsumexp(z) - z_y: [B]."""
        return output.logsumexp(1) - output.gather(1, reference[:, None])[:, 0]

    def success(self, output: Tensor, reference: Tensor) -> Tensor:
        """Whether the adversary got what it wanted, a wrong class: [B] bool."""
        return output.argmax(1) != reference

    def margin(self, output: Tensor, reference: Tensor) -> Tensor:
        """Decision value z_y - max of the others, positive where correct: [B]."""
        own = output.gather(1, reference[:, None])[:, 0]
        others = output.scatter(1, reference[:, None], -torch.inf)
        return own - others.amax(1)


class Normalize(nn.Module):
    """(x - mean) / std for each channel of [B, C, H, W], as a part of the Target.

    Args:
        mean: one value a channel, in the units of the raw input.
        std: one value a channel, above 0.

    >>> Normalize([0.5], [0.25])(torch.ones(1, 1, 2, 2)).unique().item()
    2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        centre = torch.as_tensor(mean, dtype=torch.float32).flatten()
        spread = torch.as_tensor(std, dtype=torch.float32).flatten()
        if len(centre) != len(spread) or not len(centre):
            raise SettingError(
                f"Normalize has {len(centre)} means and {len(spread)} stds; one of each a channel is needed."
            )
        if not bool((spread > 0).all()) or not bool(torch.isfinite(torch.cat([centre, spread])).all()):
            raise SettingError(f"Normalize.std is {list(std)}; allowed: finite values above 0.")
        self.register_buffer("mean", centre.reshape(-1, 1, 1))
        self.register_buffer("std", spread.reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, same shape."""
        if len(self.mean) not in (1, images.shape[1]):
            raise ModelError(
                f"Normalize has {len(self.mean)} channels, the images have {images.shape[1]}; give one mean and "
                "std a channel."
            )
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        """Mean and std, for records."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"
