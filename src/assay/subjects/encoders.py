"""Encoders: one embedding an image and a map of patch features, whatever network is behind them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError, SettingError, did_you_mean
from ..core.files import read_json
from ..core.probes import Finding
from .adapters_modules import as_backbone
from .backbones import BACKBONES, Backbone, Features, build_backbone
from .dense_tasks import Embedding
from .sliding import SlidingBackbone
from .target import Target
from .tasks import Normalize
from .weights import load_weights, read_weights

SPACES = ("global", "patch", "both")
KINDS = {
    "hf": "hf:DIR or hf:ORG/NAME, an image encoder of transformers",
    "python": "python:MODULE:FACTORY, a function that returns a torch.nn.Module",
    "run": "run:DIR (or just DIR), an encoder that 'assay train' made",
    "network": f"network:NAME, a reference encoder ({', '.join(BACKBONES)})",
}
MODEL, WEIGHTS = "model.json", "model.safetensors"
MODEL_FIELDS = ("origin", "mean", "std", "bounds")


class Encoder:
    """An encoder under examination: its network with the preprocessing inside; the caller's module is untouched.

    Args:
        backbone: maps preprocessed images to :class:`Features`.
        preprocess: applied to raw images first.
        bounds: the box of raw inputs.
        name, source: for records.

    >>> found = encoder("network:resnet-micro", image_size=32)
    >>> found.embed(torch.zeros(2, 3, 32, 32)).shape, found.patches(torch.zeros(2, 3, 32, 32)).shape
    (torch.Size([2, 128]), torch.Size([2, 128, 4, 4]))
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        preprocess: nn.Module | None = None,
        bounds: tuple[float, float] = (0.0, 1.0),
        name: str = "encoder",
        source: str = "python object",
    ) -> None:
        self.backbone, self.preprocess = backbone, preprocess
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.name, self.source = name, source
        self.folder: Path | None = None  # of the training run it was loaded from
        self._views: dict[str, Target[Embedding]] = {}
        self.findings: list[Finding] = list(self.target("global").findings)

    @property
    def dim(self) -> int:
        """Size D of the embedding."""
        return self.backbone.dim

    @property
    def patch_dim(self) -> int:
        """Size D' of a patch vector; 0 for an encoder without a patch map."""
        return self.backbone.patch_dim

    @property
    def patch(self) -> int:
        """Pixels a side that one patch stands for."""
        return self.backbone.patch

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.target("global").device

    @property
    def digest(self) -> str:
        """BLAKE2b over architecture, weights, buffers, preprocessing and bounds: 32 hex digits."""
        return self.target("global").digest

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the patch map of an image; ModelError where there is none."""
        self._needs_patches()
        return self.backbone.grid(height, width)

    def describe(self) -> dict[str, Any]:
        """What a record says of the encoder."""
        about = self.target("global").describe()
        return {**about, "task": "encoder", "dim": self.dim, "patch_dim": self.patch_dim, "patch": self.patch}

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings of raw images: [B, C, H, W] -> [B, D]; 1 forward pass a sample."""
        return self.target("global").logits(images.to(self.device))

    def patches(self, images: Tensor) -> Tensor:
        """Patch features of raw images: [B, C, H, W] -> [B, D', h, w]; 1 forward pass a sample."""
        return self.target("patch").logits(images.to(self.device))

    def features(self, images: Tensor) -> Features:
        """Embeddings and patch features of raw images by one forward pass a sample.

        An encoder without a patch map gives patches of shape [B, 0, 0, 0].
        """
        if not self.patch_dim:
            embedding = self.embed(images)
            return Features(embedding, embedding.new_zeros(len(embedding), 0, 0, 0))
        flat = self.target("both").logits(images.to(self.device))
        return self.split(flat, self.grid(*images.shape[-2:]))

    def split(self, flat: Tensor, grid: tuple[int, int] | None = None) -> Features:
        """The two parts of an answer of ``target("both")``.

        Args:
            flat: [B, D + D' h w].
            grid: (h, w); without it the map comes as one row of patches, [B, D', 1, h w].
        """
        rows, columns = grid or (1, (flat.shape[1] - self.dim) // self.patch_dim)
        return Features(flat[:, : self.dim], flat[:, self.dim :].reshape(len(flat), self.patch_dim, rows, columns))

    def target(self, space: str = "global") -> Target[Embedding]:
        """The encoder as a Target.

        Args:
            space: what it answers: ``"global"``, the embedding [B, D]; ``"patch"``, the map [B, D', h, w];
                ``"both"``, the embedding followed by the flattened map, [B, D + D' h w].
        """
        if space not in SPACES:
            raise SettingError(f"space is {space!r}; allowed: {', '.join(SPACES)}.")
        if space != "global":
            self._needs_patches()
        if space not in self._views:
            dims = {"global": self.dim, "patch": self.patch_dim}
            self._views[space] = Target(
                View(self.backbone, space),
                task=Embedding(dims.get(space)),
                bounds=self.bounds,
                preprocess=self.preprocess,
                name=self.name,
                source=self.source,
            )
        return self._views[space]

    def check_images(self, images: Tensor) -> Tensor:
        """Raw images as float32 on the CPU, clipped by at most 1e-6 to the bounds.

        Raises:
            DataError: not images, or values outside the bounds.
            ModelError: channels or sizes that the encoder does not take.
        """
        images = self.target("global").check_images(images)
        if images.ndim != 4:
            raise ModelError(f"The images have shape {tuple(images.shape)}; an encoder needs [N, C, H, W].")
        wanted = self.backbone.origin.get("in_channels", getattr(self.backbone, "in_channels", None))
        if wanted is not None and images.shape[1] != wanted:
            raise ModelError(
                f"The encoder {self.name!r} takes images with {wanted} channels, the data have {images.shape[1]}; "
                f"read the data with {wanted} channels."
            )
        if self.patch_dim:
            self.grid(*images.shape[-2:])
        return images

    def sliding(self, crop: int | tuple[int, int], stride: int | tuple[int, int], *, at_once: int = 4) -> Encoder:
        """The encoder over overlapping windows, for images of any size.

        Args:
            crop, stride: in pixels, multiples of the patch; see :class:`assay.subjects.sliding.SlidingBackbone`.
            at_once: windows in one call.
        """
        return self._with(SlidingBackbone(self.backbone, crop, stride, at_once=at_once), self.preprocess)

    def to(self, device: torch.device | str) -> Encoder:
        """The same encoder with its weights on a device; a copy, unless they are there."""
        if torch.device(device) == self.device:
            return self
        preprocess = None if self.preprocess is None else copy.deepcopy(self.preprocess).to(device)
        return self._with(copy.deepcopy(self.backbone).to(device), preprocess)

    def _with(self, backbone: Backbone, preprocess: nn.Module | None) -> Encoder:
        twin = Encoder(backbone, preprocess=preprocess, bounds=self.bounds, name=self.name, source=self.source)
        twin.folder, twin.findings = self.folder, list(self.findings)
        return twin

    def _needs_patches(self) -> None:
        if not self.patch_dim:
            raise ModelError(
                f"The encoder {self.name!r} returns one vector an image and no patch map, which is needed here. "
                "Return a map [B, D, h, w], tokens [B, N, D], or (embedding, map); or work with the embedding only."
            )


class View(nn.Module):
    """One of the things a backbone returns, or both in one tensor."""

    def __init__(self, backbone: Backbone, space: str) -> None:
        super().__init__()
        self.backbone, self.space = backbone, space
        self.training = backbone.training

    def forward(self, images: Tensor) -> Tensor:
        """[B, D], [B, D', h, w] or [B, D + D' h w]."""
        features: Features = self.backbone(images)
        if self.space == "global":
            return features.embedding
        if self.space == "patch":
            return features.patches
        return torch.cat([features.embedding, features.patches.flatten(1)], 1)


def encoder(
    spec: str | nn.Module | Encoder,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    in_channels: int = 3,
    image_size: int | tuple[int, int] | None = None,
    weights: str | None = None,
    device: torch.device | str | None = None,
    name: str | None = None,
) -> Encoder:
    """An encoder by name or from a module, with its normalisation inside.

    Args:
        spec: ``"hf:<folder or id>"``, ``"run:<folder>"`` or the folder alone, ``"network:<name>"``,
            ``"python:module:factory"``; or a module: a :class:`Backbone`, a model of transformers, one with
            ``.embed`` and ``.patches`` or with ``.forward_features``, or one that returns [B, D], a map
            [B, D, h, w] (its mean is the embedding), tokens [B, N, D], or (embedding, map). Code that comes
            with a model is never run.
        bounds: box of raw inputs.
        mean, std: normalisation in units of the raw input, one value a channel. Default: what the
            model brings along (processor configuration, run), else none.
        in_channels, image_size: of the images: builds ``network:``; for a module, the size at which it is tried.
        weights: weight file for ``network:`` and ``python:``.
        device: where to work.
        name: how records call it.

    Raises:
        ModelError, SettingError: it cannot be loaded or is no encoder; the message says why and what to do.
        MissingExtra: ``hf:`` without transformers.
    """
    if (mean is None) != (std is None):
        raise SettingError(f"mean is {mean!r} and std is {std!r}; give both or neither.")
    given = Normalize(mean, std) if mean is not None and std is not None else None
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if isinstance(spec, Encoder):
        found = spec
    elif isinstance(spec, nn.Module):
        backbone = as_backbone(spec, in_channels=in_channels, image_size=size)
        found = Encoder(backbone, preprocess=given, bounds=bounds, name=name or type(spec).__name__)
    else:
        kind, rest = _kind(str(spec))
        if kind in ("hf", "run") and weights is not None:
            raise SettingError(f"weights is {weights!r}, but {spec!r} brings its own; leave weights out.")
        if kind == "hf":
            from .adapters_transformers import load_encoder

            backbone, preprocess, findings = load_encoder(rest, bounds=bounds, preprocess=given)
            short = Path(rest).resolve().name if Path(rest).is_dir() else rest
            found = Encoder(backbone, preprocess=preprocess, bounds=bounds, name=name or short, source=f"hf:{short}")
            found.findings.extend(findings)
        elif kind == "run":
            found = _from_run(rest, given, name)
        else:
            backbone = _built(kind, rest, in_channels, size)
            if weights is not None:
                load_weights(backbone, read_weights(weights), where=repr(str(weights)))
            source = str(spec) + (f" with {Path(weights).name}" if weights else "")
            short = name or rest.rpartition(":")[2]
            found = Encoder(backbone, preprocess=given, bounds=bounds, name=short, source=source)
    return found if device is None else found.to(device)


def backbone_from_record(record: Mapping[str, Any]) -> Backbone:
    """The network that ``backbone.origin`` tells of, with fresh weights and the caller's random state as it was."""
    if "sliding" in record:
        crop, stride = (tuple(record["sliding"][name]) for name in ("crop", "stride"))
        return SlidingBackbone(backbone_from_record(record["of"]), crop, stride)
    with torch.random.fork_rng(devices=[]):
        if "transformers" in record:
            from .adapters_transformers import from_config

            return from_config(record["transformers"])
        return build_backbone(
            record["backbone"], in_channels=record["in_channels"], image_size=tuple(record["image_size"])
        )


def _kind(spec: str) -> tuple[str, str]:
    kind, colon, rest = spec.partition(":")
    if colon and kind in KINDS and rest:
        return kind, rest
    if spec and Path(spec).is_dir():
        return "run", spec
    if spec in BACKBONES:
        raise ModelError(f"There is no folder {spec!r}. For the reference encoder write 'network:{spec}'.")
    hint = did_you_mean(kind, KINDS) if colon else ""
    raise ModelError(
        f"Cannot tell what the encoder {spec!r} is: no folder has this name.{hint} "
        f"Allowed: {'; '.join(KINDS.values())}."
    )


def _built(kind: str, rest: str, in_channels: int, size: tuple[int, int] | None) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "network":
            return build_backbone(rest, in_channels=in_channels, image_size=size or (64, 64)).eval()
        from .loaders import build_from_factory

        return as_backbone(build_from_factory(rest), in_channels=in_channels, image_size=size)


def _from_run(folder: str, given: Normalize | None, name: str | None) -> Encoder:
    path = Path(folder)
    if not (path / MODEL).is_file() or not (path / WEIGHTS).is_file():
        raise ModelError(
            f"{folder!r} holds no finished training: {MODEL} and {WEIGHTS} are needed. "
            "Repeat the 'assay train' command to finish it, or write 'hf:FOLDER' for a transformers model."
        )
    about = read_json(path / MODEL)
    if not isinstance(about, dict) or about.get("kind") != "encoder":
        raise ModelError(
            f"{folder!r} holds a classifier, not an encoder. Train one with 'assay train dino' or 'assay train "
            "simsiam', or give the module without its last layer."
        )
    lacking = [field for field in MODEL_FIELDS if field not in about]
    if lacking:
        raise ModelError(f"{str(path / MODEL)!r} is damaged: it lacks {', '.join(lacking)}. Repeat the training.")
    try:
        backbone = backbone_from_record(about["origin"])
        normalize = given or Normalize(about["mean"], about["std"])
        low, high = about["bounds"]
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{str(path / MODEL)!r} is damaged: {error}. Repeat the training.") from error
    load_weights(backbone, read_weights(path / WEIGHTS), where=repr(str(path / WEIGHTS)))
    short = path.resolve().name
    found = Encoder(
        backbone.eval(), preprocess=normalize, bounds=(low, high), name=name or short, source=f"run:{short}"
    )
    found.folder = path
    return found
