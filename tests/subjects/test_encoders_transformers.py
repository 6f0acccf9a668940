"""Encoders of transformers from configurations with random weights: which tokens are taken, and where they lie."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.core.errors import MissingExtra, ModelError, NotYetSupported, SettingError
from assay.subjects import encoder
from assay.subjects.encoders import backbone_from_record
from assay.subjects.huggingface import require_transformers

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

WIDE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TOKENS = {**WIDE, "image_size": 32, "patch_size": 8}
WINDOWS = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
RESIDUAL = {**STAGES, "embedding_size": 8, "layer_type": "basic"}
# model -> (options of its configuration, tokens before the patches)
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "ViT": (TOKENS, 1),
    "DeiT": (TOKENS, 2),
    "ViTMSN": (TOKENS, 1),
    "Beit": (TOKENS, 1),
    "Dinov2": (TOKENS, 1),
    "Dinov2WithRegisters": ({**TOKENS, "num_register_tokens": 4}, 5),
    "DINOv3ViT": ({**TOKENS, "num_register_tokens": 3}, 4),
    "DINOv3ConvNext": (STAGES, 1),
    "CLIPVision": (TOKENS, 1),
    "SiglipVision": (TOKENS, 0),
    "Siglip2Vision": ({**WIDE, "patch_size": 8, "num_patches": 16}, 0),
    "Swin": (WINDOWS, 0),
    "Swinv2": (WINDOWS, 0),
    "ConvNext": ({**STAGES, "num_stages": 2}, 0),
    "ConvNextV2": ({**STAGES, "num_stages": 2}, 0),
    "ResNet": (RESIDUAL, 0),
    "RegNet": ({**STAGES, "embedding_size": 8, "groups_width": 8}, 0),
}
TEXT = {**WIDE, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def made(name: str, kind: str = "Model", **changes: Any) -> Any:
    """A tiny model with random weights, larger than those it is initialised with, so that all parts matter."""
    options = {**MODELS[name][0], **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}{kind}")(getattr(transformers, f"{name}Config")(**options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def images(height: int = 32, width: int = 32, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_shapes_at_two_sizes(self, name: str) -> None:
        found = encoder(made(name))
        assert (found.dim, found.patch_dim, found.patch) == (16, 16, 8)
        for height, width in ((32, 32), (48, 64)):
            features = found.features(images(height, width))
            assert features.embedding.shape == (2, 16)
            assert features.patches.shape == (2, 16, *found.grid(height, width)) == (2, 16, height // 8, width // 8)

    def test_patches_are_the_tokens_after_the_extra_ones_row_by_row(self, name: str) -> None:
        model = made(name)
        found = encoder(model).features(images())
        if name == "Siglip2Vision":
            cut = images().unfold(2, 8, 8).unfold(3, 8, 8)  # [B, C, rows, columns, y, x]
            pixels = cut.permute(0, 2, 3, 4, 5, 1).reshape(2, 16, 192)
            mask, shapes = torch.ones(2, 16, dtype=torch.int64), torch.tensor([[4, 4]] * 2)
            output = model(pixel_values=pixels, pixel_attention_mask=mask, spatial_shapes=shapes)
        else:
            output = model(pixel_values=images())
        states = output.last_hidden_state
        if states.ndim == 4:
            assert torch.allclose(found.patches, states, atol=1e-5)
            assert torch.allclose(found.embedding, output.pooler_output.flatten(1), atol=1e-5)
            return
        if name == "CLIPVision":
            states = model.post_layernorm(states)
        extra = MODELS[name][1]
        assert states.shape[1] == extra + 16
        for row in range(4):
            for column in range(4):
                assert torch.allclose(found.patches[:, :, row, column], states[:, extra + 4 * row + column], atol=1e-5)
        pooled = name in ("SiglipVision", "Siglip2Vision", "Swin", "Swinv2")
        assert torch.allclose(found.embedding, output.pooler_output if pooled else states[:, 0], atol=1e-5)

    def test_a_change_in_one_place_moves_the_map_there_most(self, name: str) -> None:
        found = encoder(made(name, num_hidden_layers=1) if "hidden_size" in MODELS[name][0] else made(name))
        for height, width, row, column in ((64, 64, 2, 5), (64, 96, 6, 9)):
            x = images(height, width, 1)
            moved = x.clone()
            moved[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = (
                1 - moved[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            )
            change = (found.patches(moved) - found.patches(x)).norm(dim=1)[0]
            most = divmod(int(change.argmax()), change.shape[1])
            assert max(abs(most[0] - row), abs(most[1] - column)) <= (1 if "hidden_sizes" in MODELS[name][0] else 0)

    def test_the_record_builds_it_again_offline(self, name: str) -> None:
        found = encoder(made(name))
        twin = backbone_from_record(json.loads(json.dumps(dict(found.backbone.origin)))).eval()
        twin.load_state_dict(found.backbone.state_dict())
        assert torch.allclose(twin(images()).patches, found.backbone(images()).patches, atol=1e-6)
        assert torch.allclose(twin(images()).embedding, found.backbone(images()).embedding, atol=1e-6)

    def test_an_attack_differentiates_a_copy_and_the_model_stays_as_it_was(self, name: str) -> None:
        model = made(name).train()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        found = encoder(model)
        target = found.target("both")
        reference = target.logits(images())
        _, _, gradient = target.search_copy().value_and_gradient(0.9 * images(), target.task.losses, reference)
        assert bool((gradient.abs().flatten(1).amax(1) > 0).all())
        assert all(part.training for part in model.modules())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_wrong_images_are_refused(self, name: str) -> None:
        found = encoder(made(name))
        with pytest.raises(ModelError, match="takes images with 3 channels, the data have 1"):
            found.check_images(images()[:, :1])
        with pytest.raises(ModelError, match="multiples of 8"):
            found.patches(images(36, 32))


class TestWholeModels:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [("ViT", "ForImageClassification"), ("Dinov2", "ForImageClassification"), ("ResNet", "ForImageClassification")],
    )
    def test_heads_are_left_out(self, name: str, kind: str) -> None:
        model = made(name, kind)
        expected = encoder(model.base_model).features(images())
        assert torch.equal(encoder(model).features(images()).patches, expected.patches)

    @pytest.mark.parametrize(
        ("name", "vision"), [("CLIP", "CLIPVision"), ("Siglip", "SiglipVision"), ("Siglip2", "Siglip2Vision")]
    )
    def test_of_image_and_text_the_vision_tower_is_taken(self, name: str, vision: str, tmp_path: Path) -> None:
        config = getattr(transformers, f"{name}Config")(vision_config=MODELS[vision][0], text_config=TEXT)
        model = getattr(transformers, f"{name}Model")(config).eval()
        found = encoder(model)
        assert torch.equal(found.embed(images()), encoder(model.vision_model).embed(images()))
        model.save_pretrained(tmp_path)
        assert torch.allclose(encoder(f"hf:{tmp_path}").embed(images()), found.embed(images()), atol=1e-6)

    def test_the_projection_of_clip_is_left_out(self) -> None:
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**TOKENS)).eval()
        expected = model.vision_model(pixel_values=images()).pooler_output
        assert torch.allclose(encoder(model).embed(images()), expected, atol=1e-5)

    def test_a_masked_autoencoder_neither_masks_nor_shuffles(self, tmp_path: Path) -> None:
        model = transformers.ViTMAEModel(transformers.ViTMAEConfig(**TOKENS)).eval()
        found = encoder(model).features(images())
        noise = torch.arange(16.0).expand(2, -1)
        model.config.mask_ratio = 0.0
        states = model(pixel_values=images(), noise=noise).last_hidden_state
        assert torch.allclose(found.patches.flatten(2).transpose(1, 2), states[:, 1:], atol=1e-5)
        model.save_pretrained(tmp_path)
        assert torch.allclose(encoder(f"hf:{tmp_path}").patches(images()), found.patches, atol=1e-6)

    @pytest.mark.parametrize("name", ["Bert", "Dinov2Backbone", "DINOv3ViTBackbone"])
    def test_others_are_not_built_in(self, name: str) -> None:
        if name == "Bert":
            model = transformers.BertModel(transformers.BertConfig(**TEXT))
        else:
            stem = name.removesuffix("Backbone")
            model = made(stem, "Backbone")
        with pytest.raises(NotYetSupported, match=f"{type(model).__name__}.*built in: vit, "):
            encoder(model)

    def test_tokens_that_cannot_be_laid_on_a_grid(self) -> None:
        model = made("ViT")
        found = encoder(model)
        model.layernorm.register_forward_hook(lambda *call: call[-1][:, :-3])
        with pytest.raises(ModelError, match=r"14 tokens .* cannot be laid on a grid"):
            found.patches(images())

    def test_oblong_patches_are_not_built_in(self) -> None:
        with pytest.raises(NotYetSupported, match="only square patches"):
            encoder(made("ViT", patch_size=(8, 16)))


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A DINO as it is published: without the pooling layer, with a processor."""
        model = made("ViT")
        model.pooler = None
        model.save_pretrained(tmp_path)
        processor = {"do_rescale": True, "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        return tmp_path

    def test_the_processors_normalisation_is_inside(self, folder: Path) -> None:
        found = encoder(f"hf:{folder}")
        expected = encoder(made("ViT")).embed((images() - 0.5) / 0.25)
        assert torch.allclose(found.embed(images()), expected, atol=1e-5)
        assert not found.findings
        assert (found.name, found.source) == (folder.name, f"hf:{folder.name}")

    def test_loading_is_the_same_every_time_and_leaves_the_random_state(self, folder: Path) -> None:
        before = torch.get_rng_state()
        first, second = encoder(f"hf:{folder}"), encoder(f"hf:{folder}")
        assert first.digest == second.digest
        assert torch.equal(torch.get_rng_state(), before)

    def test_nothing_is_printed(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        encoder(f"hf:{folder}")
        assert capfd.readouterr() == ("", "")

    def test_own_mean_and_std_come_first(self, folder: Path) -> None:
        found = encoder(f"hf:{folder}", mean=[0.0], std=[1.0])
        assert torch.allclose(found.embed(images()), encoder(made("ViT")).embed(images()), atol=1e-5)

    def test_without_a_processor_there_is_a_finding(self, folder: Path) -> None:
        (folder / "preprocessor_config.json").unlink()
        assert [finding.code for finding in encoder(f"hf:{folder}").findings] == ["no-processor"]

    def test_other_bounds_need_a_mean(self, folder: Path) -> None:
        with pytest.raises(SettingError, match="give mean and std too"):
            encoder(f"hf:{folder}", bounds=(0.0, 255.0))

    def test_missing_weights_are_not_made_up(self, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        del weights[next(key for key in weights if "layernorm.weight" in key)]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lack 1 tensors .*layernorm"):
            encoder(f"hf:{folder}")

    def test_code_in_the_folder_is_never_run(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
        with pytest.raises(ModelError, match="cannot be loaded as an image encoder"):
            encoder(f"hf:{folder}")
        assert not (folder / "ran").exists()

    @pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere"])
    def test_a_path_that_is_not_there(self, name: str) -> None:
        with pytest.raises(ModelError, match="There is no folder"):
            encoder(f"hf:{name}")

    def test_an_unknown_configuration_is_said(self) -> None:
        with pytest.raises(ModelError, match="model type 'vitamin'"):
            backbone_from_record({"transformers": {"model_type": "vitamin"}})

    def test_without_transformers_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtra, match=r"assay-ml\[hf\]"):
            encoder("hf:facebook/dinov2-small")


SCRIPT = """
import sys, torch
from assay.subjects import encoder, load_target
from assay.subjects.huggingface import require_transformers
transformers = require_transformers()
config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                                image_size=16, patch_size=8, num_labels=3)
transformers.ViTForImageClassification(config).save_pretrained(sys.argv[1])
print(tuple(encoder("hf:" + sys.argv[1]).patches(torch.rand(2, 3, 16, 16)).shape))
print(tuple(load_target("hf:" + sys.argv[1]).logits(torch.rand(2, 3, 16, 16)).shape))
"""


@pytest.fixture
def broken_torchvision(tmp_path: Path) -> Path:
    """A torchvision that was built for another torch: it is installed, and raises when it is imported."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    about = tmp_path / "site" / "torchvision-0.20.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.20.0\n")
    return tmp_path / "site"


def test_a_broken_torchvision_breaks_nothing(tmp_path: Path, broken_torchvision: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(broken_torchvision), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model")],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[-3:-1] == ["(2, 16, 2, 2)", "(2, 3)"]


def test_a_broken_torchvision_is_forgotten_by_a_transformers_that_was_imported_first(
    broken_torchvision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = transformers.utils.import_utils.is_torchvision_available
    monkeypatch.setitem(sys.modules, "torchvision", None)  # so that what is there now comes back afterwards
    del sys.modules["torchvision"]
    monkeypatch.syspath_prepend(str(broken_torchvision))
    try:
        look.cache_clear()
        assert look()
        require_transformers()
        assert not look()
        with pytest.raises(ImportError):
            importlib.import_module("torchvision")
    finally:
        look.cache_clear()
