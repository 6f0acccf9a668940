"""Loading models: every door, and what is said when one stays shut."""

from __future__ import annotations

import builtins
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from assay.core.errors import MissingExtra, ModelError, NotYetSupported, SettingError
from assay.subjects import build_network, load_target
from assay.subjects.huggingface import normalization
from assay.subjects.weights import load_weights, read_weights

FACTORY = """
import torch
from torch import nn

number = 3
words = "text"

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

def wrong():
    return [1, 2]

def failing():
    raise RuntimeError("no GPU")

def needy(width):
    return nn.Linear(width, 2)
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module in the current folder."""
    (tmp_path / "my_network.py").write_text(FACTORY)
    (tmp_path / "needs_more.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_network", raising=False)
    return tmp_path


class TestFactory:
    def test_a_module_of_the_current_folder(self, factory: Path) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        save_model(model, str(factory / "w.safetensors"))
        target = load_target("python:my_network:build", weights="w.safetensors", num_classes=3)
        images = torch.rand(5, 1, 2, 2)
        assert torch.allclose(target.logits(images), model(images), atol=1e-6)
        assert target.source == "python:my_network:build with w.safetensors"

    def test_normalisation_goes_inside(self, factory: Path) -> None:
        plain = load_target("python:my_network:build", num_classes=3)
        target = load_target("python:my_network:build", num_classes=3, mean=[0.5], std=[0.25])
        target.model = plain.model
        images = torch.rand(5, 1, 2, 2)
        assert torch.allclose(target.logits(images), plain.logits((images - 0.5) / 0.25), atol=1e-6)

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("python:my_network:biuld", "Did you mean 'build'"),
            ("python:my_network:number", "is a int"),
            ("python:my_network:wrong", "returned a list"),
            ("python:my_network:failing", "RuntimeError: no GPU"),
            ("python:my_network:needy", "called without arguments"),
            ("python:no_such_module:build", "no Python module 'no_such_module'"),
            ("python:needs_more:build", "needs 'a_package_nobody_has'"),
            ("python:broken:f", "cannot be imported: SyntaxError"),
            ("python:my_network", "names no factory"),
        ],
    )
    def test_what_cannot_be_made_says_why(self, factory: Path, spec: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            load_target(spec, num_classes=3)

    def test_the_number_of_classes_is_needed(self, factory: Path) -> None:
        with pytest.raises(SettingError, match="num_classes is missing"):
            load_target("python:my_network:build")


class TestSpec:
    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("networks:linear", "Did you mean 'network'"),
            ("resnet20", "write 'network:resnet20'"),
            ("no/such/folder", "no folder has this name"),
            ("network:smal-cnn", "Did you mean 'small-cnn'"),
            ("", "no folder has this name"),
            ("hf:", "Cannot tell what"),
        ],
    )
    def test_an_unknown_one_says_what_there_is(self, spec: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            load_target(spec)

    def test_mean_needs_std(self) -> None:
        with pytest.raises(SettingError, match="give both or neither"):
            load_target("network:linear", mean=[0.5])

    def test_a_reference_network_is_the_same_each_time_and_leaves_random_numbers_alone(self) -> None:
        before = torch.random.get_rng_state()
        digests = {load_target("network:mlp", image_shape=(1, 8, 8)).digest for _ in range(2)}
        assert len(digests) == 1
        assert torch.equal(before, torch.random.get_rng_state())


class TestWeights:
    def network(self) -> nn.Module:
        return build_network("linear", in_channels=1, num_classes=3, image_size=2)

    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
    def test_torch_files(self, tmp_path: Path, wrap) -> None:
        state = self.network().state_dict()
        torch.save(wrap({f"module.{name}": value for name, value in state.items()}), tmp_path / "w.pt")
        read = read_weights(tmp_path / "w.pt")
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], state[name]) for name in state)

    def test_a_pickled_module_is_refused_with_the_safe_way(self, tmp_path: Path) -> None:
        torch.save(self.network(), tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"safetensors\.torch import save_model"):
            read_weights(tmp_path / "w.pth")

    def test_a_hostile_pickle_does_not_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (Path.touch, (tmp_path / "sprung",))

        (tmp_path / "w.pt").write_bytes(pickle.dumps({"w": Trap()}))
        torch.save({"w": Trap()}, tmp_path / "v.pt")
        for name in ("w.pt", "v.pt"):
            with pytest.raises(ModelError):
                read_weights(tmp_path / name)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
    @pytest.mark.parametrize("keep", [0, 1, 20, 0.5, 0.95])
    def test_a_truncated_file_is_an_error(self, tmp_path: Path, suffix: str, keep: float) -> None:
        path = tmp_path / f"w{suffix}"
        if suffix == ".pt":
            torch.save(self.network().state_dict(), path)
        else:
            save_file(self.network().state_dict(), path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep if keep >= 1 or not keep else keep * len(whole))])
        with pytest.raises(ModelError, match=r"truncated|damaged"):
            read_weights(path)

    def test_other_content_is_an_error(self, tmp_path: Path) -> None:
        torch.save([1, 2], tmp_path / "w.pt")
        with pytest.raises(ModelError, match="not a state dict"):
            read_weights(tmp_path / "w.pt")

    @pytest.mark.parametrize(("name", "message"), [("w.h5", "suffix '.h5'"), ("absent.pt", "There is no weight file")])
    def test_other_files_are_errors(self, tmp_path: Path, name: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            read_weights(tmp_path / name)

    def test_keys_and_shapes_that_do_not_fit_are_listed(self) -> None:
        network = self.network()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        weights = {"1.weight": torch.zeros(3, 5), "extra": torch.zeros(1)}
        with pytest.raises(ModelError) as caught:
            load_weights(network, weights, where="'w.pt'")
        for part in (
            "1 keys missing (1.bias)",
            "1 keys unexpected (extra)",
            "1.weight is (3, 5) in the file and (3, 4)",
        ):
            assert part in str(caught.value)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_batch_norm_counters_may_be_absent(self) -> None:
        network = build_network("resnet20", in_channels=3, num_classes=10, image_size=32)
        state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
        load_weights(network, state, where="'w.pt'")


def save_classifier(folder: Path, kind: str = "resnet", processor: dict | None = None) -> nn.Module:
    """A tiny transformers classifier on disk."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    if kind == "vit":
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=4)
        model = transformers.ViTForImageClassification(config)
    else:
        config = transformers.ResNetConfig(
            num_channels=3, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=5
        )
        model = transformers.ResNetForImageClassification(config)
    model.eval().save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


class TestHuggingFace:
    def test_the_processor_moves_inside(self, tmp_path: Path) -> None:
        mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
        model = save_classifier(tmp_path, processor={"image_mean": mean, "image_std": std, "rescale_factor": 1 / 255})
        target = load_target(f"hf:{tmp_path}", image_shape=(3, 16, 16))
        images = torch.rand(4, 3, 16, 16)
        shape = (3, 1, 1)
        expected = model((images - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)).logits
        assert torch.allclose(target.logits(images), expected, atol=1e-5)
        assert target.task.num_classes == 5
        assert target.search_copy().logits(images).shape == (4, 5)

    def test_without_a_processor_there_is_a_finding(self, tmp_path: Path) -> None:
        model = save_classifier(tmp_path, "vit")
        target = load_target(f"hf:{tmp_path}")
        images = torch.rand(2, 1, 8, 8)
        assert torch.allclose(target.logits(images), model(images).logits, atol=1e-5)
        assert [finding.code for finding in target.findings] == ["no-processor"]

    @pytest.mark.parametrize(
        ("shape", "message"), [((1, 16, 16), "image_size=8"), ((3, 8, 8), "1 channels, the data have 3")]
    )
    def test_images_of_another_shape(self, tmp_path: Path, shape: tuple[int, int, int], message: str) -> None:
        save_classifier(tmp_path, "vit")
        with pytest.raises(ModelError, match=message):
            load_target(f"hf:{tmp_path}", image_shape=shape)

    def test_a_model_without_its_head_is_refused(self, tmp_path: Path) -> None:
        model = save_classifier(tmp_path, "vit")
        state = {name: value for name, value in model.state_dict().items() if not name.startswith("classifier")}
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lack 2 tensors.*classifier"):
            load_target(f"hf:{tmp_path}")

    def test_damaged_weights(self, tmp_path: Path) -> None:
        save_classifier(tmp_path, "vit")
        whole = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="cannot be loaded as an image classifier"):
            load_target(f"hf:{tmp_path}")

    def test_a_damaged_processor(self, tmp_path: Path) -> None:
        save_classifier(tmp_path, "vit")
        (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [')
        with pytest.raises(ModelError, match="is damaged"):
            load_target(f"hf:{tmp_path}")

    @pytest.mark.parametrize("name", ["/no/such/folder", "./absent", "~/absent"])
    def test_an_absent_folder(self, name: str) -> None:
        pytest.importorskip("transformers")
        with pytest.raises(ModelError, match="There is no folder"):
            load_target(f"hf:{name}")

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        pytest.importorskip("transformers")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_target(f"hf:{tmp_path}")

    def test_another_number_of_classes(self, tmp_path: Path) -> None:
        save_classifier(tmp_path, "vit")
        with pytest.raises(ModelError, match="has 4 outputs"):
            load_target(f"hf:{tmp_path}", num_classes=10)

    def test_without_transformers_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *args: object, **kwargs: object) -> object:
            if name == "transformers":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtra, match=r"assay-ml\[hf\]"):
            load_target("hf:some/model")

    @pytest.mark.parametrize(
        ("processor", "mean", "std"),
        [
            ({"image_mean": [0.5], "image_std": [0.25]}, 0.5, 0.25),
            ({"image_mean": 0.5, "image_std": 0.25, "rescale_factor": 0.00392156862745098}, 0.5, 0.25),
            ({"image_mean": [0.5], "image_std": [0.25], "do_normalize": False, "rescale_factor": 1 / 127.5}, 0.0, 0.5),
            ({"image_mean": [127.5], "image_std": [51.0], "do_rescale": False}, 0.5, 0.2),
        ],
    )
    def test_what_a_processor_does_to_a_pixel(self, processor: dict, mean: float, std: float) -> None:
        normalize = normalization(processor, name="m")
        assert normalize is not None
        assert float(normalize.mean) == pytest.approx(mean)
        assert float(normalize.std) == pytest.approx(std)

    def test_a_processor_that_only_rescales_needs_nothing(self) -> None:
        assert normalization({"do_normalize": False}, name="m") is None

    def test_steps_that_are_not_normalisation_are_refused(self) -> None:
        with pytest.raises(NotYetSupported, match="do_flip_channel_order"):
            normalization({"do_flip_channel_order": True}, name="m")

    @pytest.mark.parametrize(
        "processor",
        [
            {"image_mean": ["a"], "image_std": [1]},
            {"image_mean": [1]},
            {"image_mean": [0.5], "image_std": [0]},
            {"rescale_factor": None},
        ],
    )
    def test_fields_without_meaning(self, processor: dict) -> None:
        with pytest.raises((ModelError, SettingError)):
            normalization(processor, name="m")


class TestRun:
    def write(self, folder: Path, **changes: object) -> None:
        about = {
            "network": "linear",
            "in_channels": 1,
            "num_classes": 3,
            "image_size": [2, 2],
            "mean": [0.5],
            "std": [0.5],
            "bounds": [0.0, 1.0],
            **changes,
        }
        (folder / "model.json").write_text(json.dumps(about))
        network = build_network("linear", in_channels=1, num_classes=3, image_size=2)
        save_file(network.state_dict(), folder / "model.safetensors")

    def test_a_folder_by_its_name_alone(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        target, same = load_target(str(tmp_path)), load_target(f"run:{tmp_path}")
        assert target.digest == same.digest
        assert target.logits(torch.rand(2, 1, 2, 2)).shape == (2, 3)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"network": "smal-cnn"}, "Did you mean"),
            ({"image_size": 3}, "damaged"),
            ({"image_size": [2]}, "damaged"),
            ({"in_channels": "one"}, "damaged"),
            ({"std": [0.0]}, "std"),
            ({"num_classes": 4}, "shapes differ"),
        ],
    )
    def test_a_record_that_does_not_fit(self, tmp_path: Path, changes: dict[str, object], message: str) -> None:
        self.write(tmp_path, **changes)
        with pytest.raises((ModelError, SettingError), match=message):
            load_target(str(tmp_path))

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="holds no finished training"):
            load_target(str(tmp_path))

    def test_images_of_another_shape(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        with pytest.raises(ModelError, match="takes images of 1x2x2, the data have 3x2x2"):
            load_target(str(tmp_path), image_shape=(3, 2, 2))

    def test_weights_of_its_own(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        with pytest.raises(SettingError, match="brings its own"):
            load_target(str(tmp_path), weights="w.pt")
