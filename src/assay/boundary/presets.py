"""The published configurations of DyART, as read in the official repository."""

from __future__ import annotations

from ..training.presets import Preset

_COMMON = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "ema": 0.995}

PRESETS = {
    "cifar10-wrn28-10": Preset(
        network="wrn-28-10-swish",
        recipe={"r0": "16/255", "alpha": 3, "weight": 1000, "burn_in": 0.05},
        training={
            **_COMMON,
            "epochs": 200,
            "batch_size": 256,
            "learning_rate": 0.1,
            "schedule": "cosine",
            "warmup_epochs": 5,
            "gradient_clip": 0.1,
            "augment": "crop-flip",
        },
        remark="CIFAR-10, Wide ResNet 28-10 with Swish and BatchNorm; one cycle as 2.5 % warm-up, then cosine.",
    ),
    "cifar10-wrn28-10-gn": Preset(
        network="wrn-28-10-swish-gn",
        recipe={"r0": "16/255", "alpha": 8, "weight": 400, "burn_in": 0.1},
        training={
            **_COMMON,
            "epochs": 100,
            "batch_size": 256,
            "learning_rate": 0.1,
            "schedule": "multistep",
            "augment": "crop-flip",
        },
        remark="CIFAR-10, Wide ResNet 28-10 with Swish and GroupNorm.",
    ),
    "tinyimagenet-preact-resnet18": Preset(
        network="preact-resnet18",
        recipe={"r0": "32/255", "alpha": 5, "weight": 500, "burn_in": 0.2},
        training={
            **_COMMON,
            "epochs": 100,
            "batch_size": 256,
            "learning_rate": 0.1,
            "schedule": "cosine",
            "warmup_epochs": 2.5,
            "gradient_clip": 1.0,
            "augment": "crop-flip",
        },
        remark="TinyImageNet, PreActResNet-18 with BatchNorm.",
    ),
    "tinyimagenet-preact-resnet18-gn": Preset(
        network="preact-resnet18-gn",
        recipe={"r0": "20/255", "alpha": 3, "weight": 500, "burn_in": 0.2},
        training={
            **_COMMON,
            "epochs": 100,
            "batch_size": 256,
            "learning_rate": 0.05,
            "schedule": "cosine",
            "warmup_epochs": 2.5,
            "augment": "crop-flip",
        },
        remark="TinyImageNet, PreActResNet-18 with GroupNorm.",
    ),
}
