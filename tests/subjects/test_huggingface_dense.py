"""Segmentation and depth models by name, with tiny random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay import Depth, Segmentation
from assay.core.errors import ModelError, SettingError
from assay.subjects import load_target

FACTORY = """
from torch import nn

def segmenter():
    return nn.Conv2d(3, 5, 1).eval()
"""
MIT = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "patch_sizes": [7, 3],
    "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 8,
}  # fmt: skip


def images() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """Writes a tiny model of either kind."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()

    def write(kind: str) -> Path:
        if kind == "depth":
            model = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**MIT))
        else:
            config = transformers.SegformerConfig(**MIT, num_labels=5)
            model = transformers.SegformerForSemanticSegmentation(config)
        model.save_pretrained(tmp_path)
        return tmp_path

    return write


def test_a_segmentation_model_answers_at_the_size_of_the_images(folder: Any) -> None:
    target = load_target(f"hf:{folder('segmentation')}", task="segmentation", mean=[0.5], std=[0.5])
    assert target.task == Segmentation(5)
    assert target.logits(images()).shape == (2, 5, 32, 48)
    again = load_target(f"hf:{folder('segmentation')}", task=Segmentation(5, ignore_index=None), mean=[0.5], std=[0.5])
    assert again.task.ignore_index is None


def test_a_depth_model_answers_at_the_size_of_the_images(folder: Any) -> None:
    target = load_target(f"hf:{folder('depth')}", task=Depth(max_depth=10.0))
    assert target.logits(images()).shape == (2, 32, 48)
    assert [finding.code for finding in target.findings] == ["no-processor"]


def test_relative_depth_is_a_finding(folder: Any) -> None:
    path = folder("depth")
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace("{", '{"depth_estimation_type": "relative",', 1))
    target = load_target(f"hf:{path}", task="depth", mean=[0.5], std=[0.5])
    assert [finding.code for finding in target.findings] == ["relative-depth"]


def test_a_factory_serves_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_segmenter.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    assert load_target("python:my_segmenter:segmenter", task=Segmentation(5)).logits(images()).shape == (2, 5, 32, 48)
    assert load_target("python:my_segmenter:segmenter", task="segmentation", num_classes=5).task == Segmentation(5)
    with pytest.raises(SettingError, match="num_classes is missing"):
        load_target("python:my_segmenter:segmenter", task="segmentation")


def test_wrong_requests_are_refused(folder: Any) -> None:
    path = folder("segmentation")
    with pytest.raises(ModelError, match=r"num_classes is 7, but the model .* has 5 outputs"):
        load_target(f"hf:{path}", task=Segmentation(7))
    with pytest.raises(ModelError, match="cannot be loaded as a depth estimation model"):
        load_target(f"hf:{path}", task="depth")
    with pytest.raises(ModelError, match="takes images with 3 channels"):
        load_target(f"hf:{path}", task="segmentation", image_shape=(1, 8, 8))
    with pytest.raises(SettingError, match="allowed: segmentation, depth"):
        load_target(f"hf:{path}", task="flow")
    with pytest.raises(ModelError, match="is a classifier"):
        load_target("network:linear", task="depth")
