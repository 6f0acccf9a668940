"""Encoders by every door: what they answer, what is recorded of them, and what is said when a door stays shut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.core.errors import DataError, ModelError, SettingError
from assay.subjects import Embedding, Encoder, Features, build_backbone, encoder
from assay.subjects.encoders import backbone_from_record


def images(count: int = 3, height: int = 32, width: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def encoder_run(folder: Path, **changes: Any) -> Path:
    """A folder as a training of an encoder leaves it."""
    folder.mkdir()
    backbone = build_backbone("resnet-micro", in_channels=3, image_size=(32, 32))
    save_file(backbone.state_dict(), folder / "model.safetensors")
    about = {
        "kind": "encoder",
        "origin": dict(backbone.origin),
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "bounds": [0.0, 1.0],
        **changes,
    }
    (folder / "model.json").write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
    return folder


class TestReference:
    @pytest.mark.parametrize("name", ["resnet-micro", "vit-micro"])
    def test_embedding_and_patches_come_together_or_alone(self, name: str) -> None:
        found = encoder(f"network:{name}", image_size=32)
        x = images(5)
        features = found.features(x)
        assert torch.equal(features.embedding, found.embed(x))
        assert torch.equal(features.patches, found.patches(x))
        assert features.embedding.shape == (5, found.dim)
        assert features.patches.shape == (5, found.patch_dim, *found.grid(32, 32))

    def test_both_is_the_embedding_and_the_flattened_map(self) -> None:
        found = encoder("network:resnet-micro")
        x = images()
        flat = found.target("both").logits(x)
        assert torch.equal(flat, torch.cat([found.embed(x), found.patches(x).flatten(1)], 1))
        whole = found.split(flat, found.grid(32, 32))
        assert torch.equal(whole.embedding, found.embed(x))
        assert torch.equal(whole.patches, found.patches(x))
        assert torch.equal(found.split(flat).patches[:, :, 0], found.patches(x).flatten(2))

    def test_the_global_random_state_is_left_alone_and_weights_are_always_the_same(self) -> None:
        before = torch.get_rng_state()
        first, second = encoder("network:vit-micro"), encoder("network:vit-micro")
        assert torch.equal(torch.get_rng_state(), before)
        assert first.digest == second.digest

    def test_weights_from_a_file(self, tmp_path: Path) -> None:
        backbone = build_backbone("resnet-micro")
        save_file(backbone.state_dict(), tmp_path / "w.safetensors")
        found = encoder("network:resnet-micro", weights=str(tmp_path / "w.safetensors"))
        assert torch.allclose(found.embed(images()), backbone.eval()(images()).embedding, atol=1e-5)
        assert found.source == "network:resnet-micro with w.safetensors"

    def test_mean_and_std_are_inside(self) -> None:
        plain = encoder("network:resnet-micro")
        inside = encoder("network:resnet-micro", mean=[0.5], std=[0.25])
        assert torch.allclose(inside.embed(images()), plain.embed((images() - 0.5) / 0.25), atol=1e-6)

    def test_the_record_builds_the_network_again(self) -> None:
        backbone = build_backbone("vit-micro", in_channels=1, image_size=(16, 24))
        twin = backbone_from_record(json.loads(json.dumps(dict(backbone.origin))))
        twin.load_state_dict(backbone.state_dict())
        x = images(2, 16, 24, 1)
        assert torch.equal(twin.eval()(x).patches, backbone.eval()(x).patches)


class TestEncoder:
    def test_what_a_record_says(self) -> None:
        about = encoder("network:resnet-micro").describe()
        assert about["task"] == "encoder"
        assert (about["dim"], about["patch_dim"], about["patch"]) == (128, 128, 8)
        assert about["digest"] == encoder("network:resnet-micro").digest

    def test_the_digest_sees_weights_and_preprocessing(self) -> None:
        found = encoder("network:resnet-micro")
        digests = {found.digest, encoder("network:resnet-micro", mean=[0.5], std=[0.5]).digest}
        with torch.no_grad():
            next(found.backbone.parameters()).add_(1)
        assert len(digests | {found.digest}) == 3

    def test_the_module_is_left_as_it_was(self) -> None:
        backbone = build_backbone("resnet-micro").train()
        state = {name: value.clone() for name, value in backbone.state_dict().items()}
        found = Encoder(backbone)
        found.features(images())
        assert all(module.training for module in backbone.modules())
        assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())
        assert [finding.code for finding in found.findings] == ["train-mode"]
        assert not encoder("network:resnet-micro").findings

    def test_an_attack_differentiates_a_private_copy(self) -> None:
        found = encoder("network:vit-micro", image_size=32)
        search = found.target("both").search_copy()
        reference = found.target("both").logits(images())
        _, value, gradient = search.value_and_gradient(images() * 0.9, Embedding().losses, reference)
        assert bool((value > 0).all())
        assert bool((gradient.abs().flatten(1).amax(1) > 0).all())
        assert all(parameter.grad is None for parameter in found.backbone.parameters())

    def test_to_the_device_it_is_on_is_the_same(self) -> None:
        found = encoder("network:resnet-micro", device="cpu")
        assert found.to("cpu") is found
        twin = found.to("meta")
        assert twin.device.type == "meta"
        assert found.device.type == "cpu"

    def test_an_encoder_is_an_encoder(self) -> None:
        found = encoder("network:resnet-micro")
        assert encoder(found) is found


class TestImages:
    def test_are_clipped_and_come_back_as_floats(self) -> None:
        found = encoder("network:resnet-micro")
        assert float(found.check_images(images() * 0 + 1 + 5e-7).max()) == 1.0

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (images(channels=1), ModelError, "takes images with 3 channels, the data have 1"),
            (images(height=30), ModelError, "multiples of 8"),
            (images() + 1, DataError, "outside|bounds|range"),
            ((images() * 255).to(torch.uint8), DataError, "uint8"),
            (torch.rand(4, 12), ModelError, r"needs \[N, C, H, W\]"),
        ],
    )
    def test_bad_ones_are_refused(self, x: Tensor, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            encoder("network:resnet-micro").check_images(x)


class TestRuns:
    @pytest.mark.parametrize("prefix", ["run:", ""])
    def test_a_training_is_loaded_with_its_normalisation(self, tmp_path: Path, prefix: str) -> None:
        folder = encoder_run(tmp_path / "enc")
        found = encoder(f"{prefix}{folder}")
        assert (found.name, found.source, found.folder) == ("enc", "run:enc", folder)
        assert "0.4" in str(found.preprocess)
        assert found.features(images()).patches.shape == (3, 128, 4, 4)
        assert encoder(str(folder)).digest == found.digest

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"kind": None}, "classifier, not an encoder"),
            ({"origin": None}, "lacks origin"),
            ({"origin": {"backbone": "resnet-micro"}}, "is damaged"),
            ({"origin": {"backbone": "vit-micro", "in_channels": 3, "image_size": [32, 32]}}, "keys missing"),
            ({"std": [0.2]}, "means and 1 stds"),
        ],
    )
    def test_what_cannot_be_used_is_said(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises((ModelError, SettingError), match=message):
            encoder(str(encoder_run(tmp_path / "enc", **changes)))

    def test_an_unfinished_training_is_no_encoder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no finished training"):
            encoder(str(tmp_path))


class TestFactories:
    def test_a_function_of_the_users_module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my_encoder.py").write_text(
            "from torch import nn\n\ndef build():\n    return nn.Conv2d(3, 6, 4, stride=4).eval()\n"
        )
        monkeypatch.chdir(tmp_path)
        found = encoder("python:my_encoder:build")
        assert found.patches(images()).shape == (3, 6, 8, 8)
        assert (found.name, found.source) == ("build", "python:my_encoder:build")
        assert found.digest == encoder("python:my_encoder:build").digest


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("network:resnet-mini", {}, "Did you mean 'resnet-micro'"),
        ("resnet-micro", {}, "write 'network:resnet-micro'"),
        ("netwrk:vit-micro", {}, "Did you mean 'network'"),
        ("nowhere", {}, "Cannot tell what"),
        ("python:nothing", {}, "names no factory"),
        ("network:vit-micro", {"mean": [0.5]}, "give both or neither"),
        ("hf:some/model", {"weights": "w.pt"}, "brings its own"),
        ("network:vit-micro", {"image_size": 30}, "multiples of 8"),
    ],
)
def test_specs_that_name_nothing(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ModelError, SettingError), match=message):
        encoder(spec, **options)


def test_an_unknown_space_is_named() -> None:
    with pytest.raises(SettingError, match="allowed: global, patch, both"):
        encoder("network:vit-micro").target("local")


class Pairs(nn.Module):
    """Asked in two ways, as encoders of others are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 8, stride=8)

    def patches(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def embed(self, x: Tensor) -> Tensor:
        return self.layer(x).amax((2, 3))


class Returning(nn.Module):
    """Returns what a function makes of the images' 8x8 patches [B, 192, h, w]."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        return self.what(nn.functional.pixel_unshuffle(x, 8))


def tokens(patches: Tensor) -> Tensor:
    return patches.flatten(2).transpose(1, 2)


def with_class_token(patches: Tensor) -> Tensor:
    return torch.cat([tokens(patches).amax(1, keepdim=True), tokens(patches)], 1)


class TestModules:
    @pytest.mark.parametrize(
        ("what", "pooled"),
        [
            (lambda p: p, "mean"),
            (tokens, "mean"),
            (with_class_token, "max"),
            (lambda p: (p.amax((2, 3)), p), "max"),
            (lambda p: (p.amax((2, 3)), tokens(p)), "max"),
            (lambda p: Features(p.amax((2, 3)), p), "max"),
        ],
    )
    def test_what_comes_out_is_recognised(self, what: Any, pooled: str) -> None:
        x = images(2, 32, 64)
        patches = nn.functional.pixel_unshuffle(x, 8)
        found = encoder(Returning(what).eval(), image_size=(32, 64))
        features = found.features(x)
        assert torch.equal(features.patches, patches), "in the order of the image's patches"
        expected = patches.mean((2, 3)) if pooled == "mean" else patches.amax((2, 3))
        assert torch.allclose(features.embedding, expected, atol=1e-6)
        assert (found.dim, found.patch_dim, found.patch, found.grid(64, 32)) == (192, 192, 8, (8, 4))
        with pytest.raises(ModelError, match="multiples of 8"):
            found.grid(36, 32)

    def test_embed_and_patches_are_asked(self) -> None:
        module = Pairs().eval()
        found = encoder(module)
        assert torch.allclose(found.embed(images()), module.embed(images()), atol=1e-6)
        assert torch.allclose(found.patches(images()), module.patches(images()), atol=1e-6)

    @pytest.mark.parametrize("kind", ["dictionary", "prefix", "map"])
    def test_forward_features_is_asked_and_registers_are_left_out(self, kind: str) -> None:
        class Transformer(Returning):
            num_prefix_tokens = 3

            def forward_features(self, x: Tensor) -> Any:
                patches = nn.functional.pixel_unshuffle(x, 8)
                if kind == "map":
                    return patches
                first = patches.amax((2, 3))
                if kind == "dictionary":
                    return {"x_norm_clstoken": first, "x_norm_patchtokens": tokens(patches), "x_prenorm": None}
                return torch.cat([first[:, None], torch.zeros(len(x), 2, 192), tokens(patches)], 1)

        features = encoder(Transformer(lambda p: p.mean((2, 3))).eval()).features(images())
        patches = nn.functional.pixel_unshuffle(images(), 8)
        assert torch.equal(features.patches, patches)
        expected = patches.mean((2, 3)) if kind == "map" else patches.amax((2, 3))
        assert torch.allclose(features.embedding, expected, atol=1e-6)

    def test_a_vector_alone_has_no_patches(self) -> None:
        found = encoder(Returning(lambda p: p.mean((2, 3))).eval())
        assert found.patch_dim == 0
        assert found.features(images()).patches.shape == (3, 0, 0, 0)
        assert found.check_images(images(height=40)).shape == (3, 3, 40, 32)
        for ask in (found.patches, lambda _: found.grid(32, 32), lambda _: found.target("both")):
            with pytest.raises(ModelError, match="no patch map"):
                ask(images())

    def test_a_map_that_does_not_divide_the_image_is_measured(self) -> None:
        found = encoder(nn.Conv2d(3, 4, 5, stride=2).eval())
        assert found.grid(33, 21) == (15, 9)
        assert found.features(images(height=33, width=21)).patches.shape == (3, 4, 15, 9)

    def test_modes_and_statistics_stay(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4)).train()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        encoder(module).features(images())
        assert all(part.training for part in module.modules())
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

    @pytest.mark.parametrize(
        ("module", "options", "message"),
        [
            (Returning(lambda p: tokens(p)[:, :-3]), {}, "cannot be laid on a grid"),
            (Returning(lambda p: [p] * 3), {}, r"returned \("),
            (Returning(lambda p: {"x": p}), {}, "The encoder returned dict"),
            (nn.Conv2d(1, 4, 3), {}, "fails on images with 3 channels"),
            (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), {"image_size": 8}, "fails on images"),
        ],
    )
    def test_others_are_refused(self, module: nn.Module, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            encoder(module.eval(), **options)

    def test_a_module_for_one_size_is_tried_at_the_usual_ones(self) -> None:
        module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7)).eval()
        assert encoder(module).dim == 7
        assert encoder(nn.Sequential(nn.Flatten(), nn.Linear(192, 7)), image_size=8).dim == 7
