"""Noisy votes: which class the model gives to copies of an input with Gaussian noise added.

The noise belongs to the sample: each sample has a generator of its own, seeded by
(seed, "certify", purpose, sample), and draws it in pieces of 32 copies. The votes of
a sample therefore depend on nothing but the settings, the seed and its name: not on
other samples, not on the order, not on how many copies go through the network at a
time. A CPU and a GPU draw different noise; both are as good.

Noisy copies are never clamped to the range of the pixels: the certificate is about
the model under unbounded Gaussian noise.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import AssayError, ModelError, SettingError
from ..core.seeds import seed as named_seed
from ..subjects.lanes import ROWS, lane_size
from ..subjects.target import Target
from .kernels import quickened

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PIECE = 32
_CHANNELS_LAST_PIXELS = 16 * 16
_AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


class NoisyModel:
    """A private copy of a model that is asked for votes on noisy copies of its inputs.

    Images of 256 pixels and up run in the channels-last layout, where convolutions on a
    CPU are several times faster, and with the kernels of :mod:`assay.certify.kernels`, once
    those have given the logits of the plain layers on a first batch.

    Args:
        target: the model; its module is left as it is.
        sigma: standard deviation of the noise, in units of the raw input.
        dtype: ``"float32"`` or ``"bfloat16"``.
        shape: of one image, (C, H, W) or any other.
        batch_size: noisy copies in one call at most; the votes do not depend on it.
    """

    def __init__(self, target: Target, sigma: float, dtype: str, shape: tuple[int, ...], batch_size: int) -> None:
        if dtype not in DTYPES:
            raise SettingError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}.")
        self.target, self.sigma, self.dtype, self.shape = target, sigma, DTYPES[dtype], shape
        self.device = target.device
        self.last = len(shape) == 3 and shape[1] * shape[2] >= _CHANNELS_LAST_PIXELS
        self.preprocess = _private(target.preprocess) if target.preprocess is not None else None
        self.module: Callable[[Tensor], Any] = target.model
        cache = lane_size(torch.empty(batch_size, *shape, device="meta" if self.device.type != "cpu" else "cpu"))
        self.rows = max(PIECE, min(batch_size, cache) // PIECE * PIECE)
        if isinstance(target.model, nn.Module):
            self.module = _private(target.model).to(self.dtype)
            if self.last:
                self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.module = self._fastest(self.module)
        elif self.dtype != torch.float32:
            raise SettingError(f"dtype is {dtype!r}, but the model is a plain function; leave dtype at float32.")

    def stream(self, image: Tensor, seed: int, sample_id: int, purpose: str = "votes") -> VoteStream:
        """The votes on noisy copies of one image, one after another."""
        return VoteStream(self, image, named_seed(seed, "certify", purpose, sample_id))

    def answers(self, copies: Tensor) -> Tensor:
        """The classes of noisy copies [B, ...]: [B]; a tie goes to the lower class."""
        with torch.inference_mode():
            return self._logits(self.module, copies).argmax(1)

    def noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """σ times standard normal draws, [rows, *shape], rows a multiple of 32, in the layout that the model takes."""
        flat = torch.empty(rows, math.prod(self.shape), device=self.device)
        for piece in flat.split(PIECE):
            piece.normal_(0.0, self.sigma, generator=generator)
        if not self.last:
            return flat.view(rows, *self.shape)
        channels, height, width = self.shape
        return flat.view(rows, height, width, channels).permute(0, 3, 1, 2)

    def _logits(self, module: Callable[[Tensor], Any], copies: Tensor) -> Tensor:
        try:
            inputs = copies if self.preprocess is None else self.preprocess(copies)
            inputs = inputs.to(self.dtype)
            if self.last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            output = module(inputs)
            logits = getattr(output, "logits", output)
        except AssayError:
            raise
        except Exception as error:
            raise ModelError(
                f"The model failed on noisy inputs of shape {tuple(copies.shape)} in {self.dtype}: "
                f"{type(error).__name__}: {error}. Check that the images have the shape that it was made for."
            ) from error
        self.target.task.check_output(logits, len(copies))
        assert isinstance(logits, Tensor)
        return logits

    def _fastest(self, module: nn.Module) -> nn.Module:
        """The module with quicker kernels, if they exist for it and give the same logits up to rounding."""
        if not self.last or self.device.type != "cpu":
            return module
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quick = quickened(module)
        if quick is module:
            return module
        low, high = self.target.bounds
        copies = self.noise(PIECE, torch.Generator().manual_seed(0)).add_((low + high) / 2)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = self._logits(module, copies).to(torch.float32)
            try:
                logits = self._logits(quick, copies).to(torch.float32)
            except AssayError:  # this build of torch lacks the kernel for these shapes or this precision
                return module
        close = (logits - plain).abs().amax() <= _AGREEMENT[self.dtype] * plain.abs().amax().clamp_min(1.0)
        return quick if bool(close) else module


class VoteStream:
    """Votes on noisy copies of one image; the next call takes fresh noise.

    Args:
        model: who votes.
        image: [...], raw.
        seed: of the sample's noise; the generator of a CPU keeps 32 bits of it.
    """

    def __init__(self, model: NoisyModel, image: Tensor, seed: int) -> None:
        self.model = model
        self.image = image.to(model.device)
        self.generator = torch.Generator(device=model.device).manual_seed(seed)

    def votes(self, count: int, *, witness: int = 0) -> tuple[Tensor, int]:
        """Votes for each class [K] of ``count`` fresh noisy copies, and disagreements with the witness.

        Args:
            count: noisy copies, at least 1.
            witness: so many of the first copies, 32 at most, are shown to the caller's own
                module in float32 as well, and differing answers counted.
        """
        classes = self.model.target.task.num_classes
        total = torch.zeros(classes, dtype=torch.int64, device=self.model.device)
        differing = 0
        for start in range(0, count, self.model.rows):
            wanted = min(self.model.rows, count - start)
            copies = self.model.noise(-(-wanted // PIECE) * PIECE, self.generator).add_(self.image)
            answers = self.model.answers(copies[: -(-wanted // ROWS) * ROWS])[:wanted]
            total += torch.bincount(answers, minlength=classes)
            if witness and not start:
                shown = copies[: min(witness, wanted)].contiguous(memory_format=torch.contiguous_format)
                differing = int((self.model.target.logits(shown).argmax(1) != answers[: len(shown)]).sum())
        return total.cpu(), differing


def _private(module: nn.Module) -> nn.Module:
    try:
        twin = copy.deepcopy(module)
    except Exception as error:
        raise ModelError(
            f"The model {type(module).__name__} cannot be copied ({type(error).__name__}: {error}), and votes are "
            "counted on a private copy so that yours stays untouched. Remove hooks or members that cannot be "
            "deep-copied."
        ) from error
    return twin.eval().requires_grad_(False)
