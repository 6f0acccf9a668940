"""Vision models of transformers as Backbones: which token is the embedding, which are patches, and in which order.

| model | embedding | dropped before the patches |
|---|---|---|
| ViT, DINO, MAE, MSN, BEiT, DINOv2 | class token, normalised | class token |
| DeiT | class token | class and distillation token |
| DINOv2 with registers, DINOv3 ViT | class token | class and register tokens |
| DINOv3 ConvNeXt | normalised mean | the mean |
| CLIP | class token after the last norm, before the projection | class token; the norm is applied to patches too |
| SigLIP 1 and 2 | attention-pooled | nothing |
| Swin, Swin v2 | mean of the patches | nothing |
| ConvNeXt 1 and 2, ResNet, RegNet | pooled map | nothing |

Position embeddings of ViTs are interpolated for images of another size than they were trained on.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import AssayError, ModelError, NotYetSupported
from ..core.probes import Finding
from .adapters_modules import on_grid
from .backbones import Backbone, Features
from .huggingface import own_preprocess, pretrained, require_transformers
from .tasks import Normalize

CLASS_TOKEN = ("vit", "vit_msn", "beit", "data2vec-vision", "dinov2", "dinov2_with_registers", "dinov3_vit", "deit")
POOLED_TOKENS = (
    "siglip_vision_model",
    "siglip2_vision_model",
    "swin",
    "swinv2",
    "dinov3_convnext",
    "clip_vision_model",
)
MAPS = ("convnext", "convnextv2", "resnet", "regnet")
KNOWN = (*CLASS_TOKEN, *POOLED_TOKENS, *MAPS)
UNUSED = ("pooler.", "text_", "logit_", "visual_projection", "mask_token")


class TransformersBackbone(Backbone):
    """A vision model of transformers.

    Args:
        model: one of the kinds in this module's table; weights are shared with it, not copied.

    Raises:
        ModelError: it is no image encoder, or returns tokens that cannot be laid on a grid.
        NotYetSupported: a kind that is not built in.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.kind: str = config.model_type
        self.patch = _patch(config)
        self.in_channels: int = config.num_channels
        self.extra = _extra_tokens(config)
        self.model = _without_pooler(model) if self.kind in CLASS_TOKEN else model
        self.training = model.training
        self.trained_size = _pair(getattr(config, "image_size", None))
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(type(model).forward).parameters
        self.origin = {
            "transformers": config.to_diff_dict() | {"model_type": self.kind},
            "in_channels": self.in_channels,
        }
        width = getattr(config, "hidden_size", None) or config.hidden_sizes[-1]
        self.dim = self.patch_dim = int(width)

    def forward(self, images: Tensor) -> Features:
        """Images [B, C, H, W] -> embedding [B, D], patches [B, D, H / patch, W / patch]."""
        grid = self.grid(*images.shape[-2:])
        output = self._output(images, grid)
        states = output.last_hidden_state
        if self.kind in MAPS:
            return Features(output.pooler_output.flatten(1), states)
        if states.shape[1] != self.extra + grid[0] * grid[1]:
            raise ModelError(
                f"{type(self.model).__name__} returned {states.shape[1]} tokens for an image of {images.shape[-2]}x"
                f"{images.shape[-1]} pixels; {self.extra} and {grid[0]}x{grid[1]} patches are needed, so its patch "
                "tokens cannot be laid on a grid. Check config.json, or wrap the model so that it returns a map "
                "[B, D, h, w]."
            )
        if self.kind == "clip_vision_model":
            states = self.model.post_layernorm(states)
        first = states[:, 0] if self.kind in CLASS_TOKEN else output.pooler_output
        if first is None:
            first = states.mean(1)
        return Features(first, on_grid(states[:, self.extra :], images, grid))

    def _output(self, images: Tensor, grid: tuple[int, int]) -> Any:
        if self.kind == "siglip2_vision_model":
            pixels = _cut(images, self.patch)
            shapes = torch.tensor([grid] * len(images))
            mask = torch.ones(pixels.shape[:2], dtype=torch.int64, device=images.device)
            return self.model(pixel_values=pixels, pixel_attention_mask=mask, spatial_shapes=shapes)
        if self.interpolates and tuple(images.shape[-2:]) != self.trained_size:
            return self.model(pixel_values=images, interpolate_pos_encoding=True)
        return self.model(pixel_values=images)


def load_encoder(
    name: str, *, bounds: tuple[float, float], preprocess: Normalize | None
) -> tuple[Backbone, Normalize | None, list[Finding]]:
    """An image encoder from a folder or the hub, its normalisation, and findings.

    Args:
        name: a folder made by ``save_pretrained``, or an id such as ``"facebook/dinov2-small"``.
        bounds: box of raw inputs; (0, 1) unless ``preprocess`` is given.
        preprocess: used in the place of the processor's normalisation.
    """
    model = pretrained(
        "AutoModel", name, what="an image encoder", unused=lambda key: any(part in key for part in UNUSED)
    )
    backbone = adapt(model)
    normalize, findings = own_preprocess(name, bounds=bounds, given=preprocess)
    return backbone, normalize, findings


def adapt(model: Any) -> Backbone:
    """A model of transformers as a Backbone; of one with heads or a text tower, the vision part is taken."""
    asked = type(model).__name__
    while not type(model).__name__.endswith(("Model", "Backbone")) and getattr(model, "base_model", model) is not model:
        model = model.base_model
    if isinstance(getattr(model, "vision_model", None), nn.Module):
        model = model.vision_model
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind == "vit_mae":
        model, kind = _unmasked(model), "vit"
    if kind not in KNOWN or type(model).__name__.endswith("Backbone"):
        raise NotYetSupported(
            f"{asked} (model type {kind!r}) is not built in as an encoder; built in: {', '.join(KNOWN)}, "
            "loaded with AutoModel. Or wrap it in a module that returns a map [B, D, h, w] or (embedding, map)."
        )
    return TransformersBackbone(model)


def _unmasked(model: Any) -> Any:
    """The encoder of a masked autoencoder as the ViT that it is: it neither masks nor shuffles patches."""
    transformers = require_transformers()
    known = model.config.to_dict()
    config = transformers.ViTConfig(
        **{key: value for key, value in known.items() if key not in ("model_type", "architectures")}
    )
    twin = transformers.ViTModel(config, add_pooling_layer=False)
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)


def from_config(record: Mapping[str, Any]) -> Backbone:
    """The network of a configuration, with fresh weights; nothing is read from disk or the network."""
    transformers = require_transformers()
    options = dict(record)
    kind = options.pop("model_type", None)
    try:
        config = transformers.AutoConfig.for_model(kind, **options)
        return adapt(transformers.AutoModel.from_config(config, trust_remote_code=False))
    except AssayError:
        raise
    except Exception as error:  # transformers raises many kinds for a configuration it does not know
        raise ModelError(
            f"The recorded configuration (model type {kind!r}) cannot be built: {type(error).__name__}: {error}. "
            "Install the version of transformers it was recorded with."
        ) from error


def _patch(config: Any) -> int:
    """Pixels a side of a patch, after all halvings of the resolution."""
    size = getattr(config, "patch_size", 4)
    sides = _pair(size)
    if sides is None or sides[0] != sides[1]:
        raise NotYetSupported(f"The model cuts patches of {size}; only square patches are built in.")
    if config.model_type in ("swin", "swinv2"):
        return sides[0] * 2 ** (len(config.depths) - 1)
    if config.model_type in ("convnext", "convnextv2", "dinov3_convnext"):
        return sides[0] * 2 ** (len(config.hidden_sizes) - 1)
    if config.model_type == "resnet":
        return 4 * 2 ** (len(config.depths) - 1 + bool(config.downsample_in_first_stage))
    if config.model_type == "regnet":
        return 2 * 2 ** (len(config.depths) - 1 + bool(config.downsample_in_first_stage))
    return sides[0]


def _extra_tokens(config: Any) -> int:
    """Tokens in front of the patches."""
    kind = config.model_type
    if kind == "deit":
        return 2
    if kind in CLASS_TOKEN or kind in ("clip_vision_model", "dinov3_convnext"):
        return 1 + int(getattr(config, "num_register_tokens", 0) or 0)
    return 0


def _without_pooler(model: Any) -> Any:
    """The same model without the pooling layer that is not used: published weights often lack it."""
    if getattr(model, "pooler", None) is None:
        return model
    twin = copy.copy(model)
    twin._modules = dict(model._modules)
    twin.pooler = None
    return twin


def _cut(images: Tensor, side: int) -> Tensor:
    """Flattened patches, row by row, channels last: [B, C, H, W] -> [B, N, side * side * C]."""
    count, channels, height, width = images.shape
    parts = images.reshape(count, channels, height // side, side, width // side, side)
    return parts.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, side * side * channels)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) in (1, 2):
        return int(value[0]), int(value[-1])
    return None
