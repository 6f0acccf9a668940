"""Any module as a Backbone: a map, a vector, tokens, or both ways to ask are recognised by what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import AssayError, ModelError
from .backbones import Backbone, Features

TRIED = ((64, 64), (224, 224), (32, 32))


class ModuleBackbone(Backbone):
    """A module that is tried once, to see what it returns.

    Args:
        module: has ``.embed`` and ``.patches``; or ``.forward_features`` as vision transformers have it (with
            ``.num_prefix_tokens``, or the dictionary of DINOv2); or returns [B, D], [B, D, h, w], tokens
            [B, N, D] (class token first, if there is one) or (embedding, map).
        in_channels: channels of the image it is tried on.
        image_size: (height, width) of that image; 64, 224 and 32 pixels a side are tried where it is not given.

    Raises:
        ModelError: it fails on all of them, or returns something else.
    """

    def __init__(self, module: nn.Module, *, in_channels: int, image_size: tuple[int, int] | None) -> None:
        super().__init__()
        self.module = module
        self.training = module.training
        self.in_channels = in_channels
        self._grids: dict[tuple[int, int], tuple[int, int]] = {}
        height, width = self._try(image_size)
        found = self._look(height, width)
        self.dim, self.patch_dim = found.embedding.shape[1], found.patches.shape[1]
        rows, columns = found.patches.shape[-2:]
        self.divides = bool(rows and columns and height % rows == 0 and height // rows * columns == width)
        self.patch = height // rows if self.divides else round(height / rows) if rows else 0

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the patch map; a module whose map does not divide the image is asked."""
        if self.divides:
            return super().grid(height, width)
        if (height, width) not in self._grids:
            rows, columns = self._look(height, width).patches.shape[-2:]
            self._grids[height, width] = (rows, columns)
        return self._grids[height, width]

    def forward(self, images: Tensor) -> Features:
        """Images [B, C, H, W] -> embedding [B, D], patches [B, D', h, w] (or [B, 0, 0, 0])."""
        return features_of(self._raw(images), images)

    def _raw(self, images: Tensor) -> Any:
        embed, patches = (getattr(self.module, name, None) for name in ("embed", "patches"))
        if callable(embed) and callable(patches):
            return embed(images), patches(images)
        states = getattr(self.module, "forward_features", None)
        if callable(states):
            return _of_states(states(images), getattr(self.module, "num_prefix_tokens", None))
        return self.module(images)

    @torch.no_grad()
    def _look(self, height: int, width: int) -> Features:
        place = next((p for p in self.module.parameters()), torch.empty(0))
        image = torch.zeros(1, self.in_channels, height, width, device=place.device, dtype=torch.float32)
        modules = list(self.module.modules())
        modes = [part.training for part in modules]
        with torch.random.fork_rng(devices=[]):
            try:
                for part in modules:
                    part.training = False
                return features_of(self._raw(image), image)
            finally:
                for part, mode in zip(modules, modes, strict=True):
                    part.training = mode

    def _try(self, size: tuple[int, int] | None) -> tuple[int, int]:
        causes = []
        for height, width in TRIED if size is None else (size,):
            try:
                self._look(height, width)
            except AssayError:
                raise
            except Exception as error:  # the module's own code runs here and may raise anything
                causes.append(f"{height}x{width}: {type(error).__name__}: {error}")
            else:
                return height, width
        raise ModelError(
            f"{type(self.module).__name__} fails on images with {self.in_channels} channels ({'; '.join(causes)}). "
            "Give in_channels and image_size as it needs them."
        )


def as_backbone(module: nn.Module, *, in_channels: int = 3, image_size: tuple[int, int] | None = None) -> Backbone:
    """A module as a Backbone; one that is a Backbone is returned as it is.

    Args:
        module: see :func:`assay.subjects.encoders.encoder`.
        in_channels, image_size: of the image a foreign module is tried on.
    """
    if isinstance(module, Backbone):
        return module
    if any(kind.__module__.startswith("transformers.") for kind in type(module).__mro__):
        from .adapters_transformers import adapt

        return adapt(module)
    return ModuleBackbone(module, in_channels=in_channels, image_size=image_size)


def features_of(raw: Any, images: Tensor) -> Features:
    """What a module returned as Features; ModelError if it is none of the known shapes."""
    if isinstance(raw, Features):
        return raw
    if isinstance(raw, tuple | list) and len(raw) == 2 and all(isinstance(part, Tensor) for part in raw):
        embedding, patches = raw
        if embedding.ndim == 2 and patches.ndim == 3:
            patches = on_grid(patches, images)
        if embedding.ndim == 2 and patches.ndim == 4:
            return Features(embedding, patches)
    if isinstance(raw, Tensor) and raw.ndim == 2:
        return Features(raw, raw.new_zeros(len(raw), 0, 0, 0))
    if isinstance(raw, Tensor) and raw.ndim == 4:
        return Features(raw.mean((2, 3)), raw)
    if isinstance(raw, Tensor) and raw.ndim == 3:
        patches = on_grid(raw, images)
        first = raw.shape[1] > patches.shape[2] * patches.shape[3]
        return Features(raw[:, 0] if first else raw.mean(1), patches)
    shape = ", ".join(
        str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in _parts(raw)
    )
    raise ModelError(
        f"The encoder returned {shape}; needed: [B, D], a map [B, D, h, w], tokens [B, N, D], or (embedding [B, D], "
        "map [B, D, h, w]). Wrap it so that it returns one of these."
    )


def _of_states(states: Any, extra: Any) -> Any:
    """What ``forward_features`` returns, without register tokens: DINOv2's own dictionary, or tokens."""
    if isinstance(states, Mapping) and {"x_norm_clstoken", "x_norm_patchtokens"} <= set(states):
        return states["x_norm_clstoken"], states["x_norm_patchtokens"]
    if isinstance(states, Tensor) and states.ndim == 3 and isinstance(extra, int) and extra:
        return states[:, 0], states[:, extra:]
    return states


def on_grid(tokens: Tensor, images: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Patch tokens as a map: [B, N, D] -> [B, D, h, w]; one token more than patches is a class token and dropped.

    Args:
        tokens: row by row, as patches are cut.
        images: [B, C, H, W] they belong to.
        grid: (h, w), if known; else the one with square patches is looked for.

    Raises:
        ModelError: the tokens cannot be laid on a grid.
    """
    count = tokens.shape[1]
    found = grid if grid is not None and count - grid[0] * grid[1] in (0, 1) else None
    for extra in (0, 1) if grid is None else ():
        found = found or _square_patches(count - extra, *images.shape[-2:])
    if found is None:
        where = f"images of {images.shape[-2]}x{images.shape[-1]} pixels"
        raise ModelError(
            f"{count} patch tokens cannot be laid on a grid over {where}"
            + (
                f", where {grid[0]}x{grid[1]} are needed"
                if grid
                else " with square patches, with or without a class token"
            )
            + ". Return a map [B, D, h, w], drop register and other extra tokens, and do not mask or shuffle patches."
        )
    rows, columns = found
    kept = tokens[:, count - rows * columns :]
    return kept.transpose(1, 2).reshape(len(tokens), tokens.shape[2], rows, columns)


def _square_patches(count: int, height: int, width: int) -> tuple[int, int] | None:
    """The (rows, columns) with rows * columns = count whose patches are square and divide the image."""
    side = math.isqrt(height * width // count) if count > 0 else 0
    if not side or height % side or width % side or (height // side) * (width // side) != count:
        return None
    return height // side, width // side


def _parts(raw: Any) -> list[Any]:
    return list(raw) if isinstance(raw, tuple | list) else [raw]
