"""Small models of every task on random images, and the loops that attacks are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.subjects.backbones import Backbone, Features
from assay.subjects.dense_tasks import Depth, Embedding, Segmentation
from assay.subjects.encoders import Encoder
from assay.subjects.target import Target
from assay.subjects.tasks import Classification, Normalize

SHAPE = (3, 8, 12)
CLASSES = 4
IGNORED = 255


def _seeded(*layers: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(3)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * (1.5 / max(1, value[0].numel()) ** 0.5)
    return model.eval()


class TinyEncoder(Backbone):
    """A patch embedding of 4 x 4 pixels, a nonlinearity, and the mean as the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = self.patch_dim = 6
        self.patch = 4
        self.body = _seeded(nn.Conv2d(3, 8, 4, stride=4), nn.Tanh(), nn.Conv2d(8, 6, 1))

    def forward(self, images: Tensor) -> Features:
        """[B, 3, H, W] -> embedding [B, 6], patches [B, 6, H / 4, W / 4]."""
        self.grid(*images.shape[-2:])
        maps = self.body(images)
        return Features(torch.tanh(maps).mean((2, 3)), maps)


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def encoder() -> Encoder:
    return Encoder(TinyEncoder().eval(), preprocess=Normalize([0.5] * 3, [0.25] * 3))


def classifier() -> Target:
    return Target(
        _seeded(nn.Conv2d(3, 6, 4, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5)), task=Classification(5)
    )


def segmenter() -> Target[Segmentation]:
    """Logits at a quarter of the images' size, so that resizing is part of what is attacked."""
    model = _seeded(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(8, CLASSES, 1))
    return Target(model, task=Segmentation(CLASSES), preprocess=Normalize([0.5], [0.2]))


def depther() -> Target[Depth]:
    model = _seeded(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 1), nn.Softplus())
    return Target(model, task=Depth(max_depth=5.0))


def labels(count: int) -> Tensor:
    return classifier().logits(images(count)).argmax(1)


def masks(count: int) -> Tensor:
    """What the model says of the clean images, with noise and some ignored pixels."""
    found = segmenter().logits(images(count)).argmax(1)
    draws = torch.rand(found.shape, generator=torch.Generator().manual_seed(2))
    found = torch.where(draws < 0.1, (found + 1) % CLASSES, found)
    return torch.where(draws > 0.9, IGNORED, found)


def depths(count: int) -> Tensor:
    """What the model says of the clean images, a little off, with some missing measurements."""
    found = depther().logits(images(count))
    draws = torch.rand(found.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(draws > 0.9, 0.0, found * (0.8 + 0.4 * draws))


def subject(task: str):
    """The model of a task."""
    return {"classification": classifier, "segmentation": segmenter, "depth": depther, "embedding": encoder}[task]()


def references(task: str, count: int) -> Tensor | None:
    return {"classification": labels, "segmentation": masks, "depth": depths, "embedding": lambda count: None}[task](
        count
    )


def embedding_target(space: str = "global") -> Target[Embedding]:
    return encoder().target(space)


def pixel_accuracy(output: Tensor, mask: Tensor) -> Tensor:
    """Share of the pixels that count that are right, image by image: [B]."""
    shares = []
    for prediction, truth in zip(output.argmax(1), mask, strict=True):
        counted = truth != IGNORED
        shares.append((prediction[counted] == truth[counted]).double().mean())
    return torch.stack(shares)
