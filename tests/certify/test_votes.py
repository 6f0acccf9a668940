"""Votes: whose noise it is, what it looks like, and that quick kernels give the plain answers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay import Classification, Normalize, Target
from assay.certify.kernels import ConvolutionWithActivation, PairwiseMaxPool, quickened
from assay.certify.votes import NoisyModel
from assay.core.errors import ModelError, SettingError

from .models import convolutional, linear, pictures


def votes(target: Target, image: Tensor, count: int, batch_size: int = 256, sigma: float = 0.5) -> list[int]:
    model = NoisyModel(target, sigma, "float32", tuple(image.shape), batch_size)
    return model.stream(image, 0, 7).votes(count)[0].tolist()


@pytest.mark.parametrize(("name", "channels"), [("tiny-cnn", 1), ("dp-cert-cnn", 3)])
@pytest.mark.parametrize("batch_size", [1, 32, 97, 1000])
def test_votes_do_not_depend_on_the_batch(name: str, channels: int, batch_size: int) -> None:
    target, image = convolutional(name, 16, channels), pictures(1, 16, channels)[0]
    assert votes(target, image, 1001, batch_size) == votes(target, image, 1001)


def test_votes_go_on_with_fresh_noise() -> None:
    target, image = convolutional(), pictures(1)[0]
    model = NoisyModel(target, 2.0, "float32", (1, 16, 16), 64)
    stream = model.stream(image, 0, 7)
    parts = [stream.votes(32)[0] for _ in range(4)]
    assert sum(parts).tolist() == votes(target, image, 128, sigma=2.0)
    assert len({tuple(part.tolist()) for part in parts}) > 1


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (12,)])
def test_noise_is_normal_with_the_right_scale_and_never_clamped(shape: tuple[int, ...]) -> None:
    seen: list[Tensor] = []

    def watch(inputs: Tensor) -> Tensor:
        seen.append(inputs.clone())
        return torch.zeros(len(inputs), 2)

    target = Target(watch, task=Classification(2))
    model = NoisyModel(target, 0.5, "float32", shape, 256)
    assert model.stream(torch.full(shape, 0.9), 0, 0).votes(2048)[0].tolist() == [2048, 0]
    noise = (torch.cat(seen) - 0.9).flatten(1) / 0.5
    cells = noise.numel()
    assert abs(float(noise.mean())) < 5 / cells**0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / cells) ** 0.5
    assert abs(float((noise > 1).float().mean()) - 0.158655) < 5 * 0.37 / cells**0.5
    assert float(torch.cat(seen).max()) > 1.5
    assert (noise[0] != noise[1]).any()


def test_the_votes_are_those_of_the_callers_model() -> None:
    """Against the plain loop on the same noise, through preprocessing, without any quick kernel."""
    target, image = convolutional("dp-cert-cnn", 28), pictures(1, 28)[0]
    target = Target(target.model, task=target.task, preprocess=Normalize([0.4], [0.3]))
    model = NoisyModel(target, 1.0, "float32", (1, 28, 28), 256)
    assert isinstance(model.module, torch.fx.GraphModule)
    generator = torch.Generator().manual_seed(0)
    copies = model.noise(512, generator) + image
    plain = target.logits(copies.contiguous()).argmax(1)
    assert len(plain.unique()) > 1
    assert model.answers(copies).tolist() == plain.tolist()


def test_the_callers_module_is_left_alone() -> None:
    target = convolutional()
    assert isinstance(target.model, nn.Module)
    target.model.train()
    before = {name: value.stride() for name, value in target.model.state_dict().items()}
    state = torch.random.get_rng_state()
    votes(target, pictures(1)[0], 64)
    assert target.model.training
    assert before == {name: value.stride() for name, value in target.model.state_dict().items()}
    assert torch.equal(state, torch.random.get_rng_state())


@given(
    st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.sampled_from([1, 2]), st.sampled_from(["first", "last"])
)
def test_pairwise_pooling_is_max_pooling(height: int, width: int, channels: int, stride: int, layout: str) -> None:
    images = torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(height * 10 + width))
    images = images.contiguous(memory_format=torch.channels_last) if layout == "last" else images
    assert torch.equal(PairwiseMaxPool(stride)(images), F.max_pool2d(images, 2, stride))


class Branching(nn.Module):
    """Reads a convolution twice, and its activation by a function and a method."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 4, 3, padding=1) for c in (2, 4, 4))
        self.pools = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2, 1), nn.MaxPool2d(3), nn.MaxPool2d(2, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        second = F.relu(self.second(torch.tanh(first) + first))
        return self.pools(self.third(second).tanh()).flatten(1)


def test_quick_kernels_replace_what_they_may_and_nothing_else() -> None:
    torch.manual_seed(0)
    plain = Branching().eval().requires_grad_(False)
    quick = quickened(plain)
    kinds = [type(module) for module in quick.modules()]
    assert kinds.count(PairwiseMaxPool) == 2
    assert kinds.count(ConvolutionWithActivation) <= 2
    images = torch.randn(5, 2, 24, 24).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(quick(images), plain(images), atol=1e-6)


class Undecided(nn.Module):
    """Cannot be traced: it branches on its input."""

    def forward(self, images: Tensor) -> Tensor:
        answer = images.flatten(1)[:, :2]
        return answer if bool((answer > 0).any()) else -answer


def test_models_that_cannot_be_traced_run_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), Undecided()).eval().requires_grad_(False)
    assert quickened(model) is model
    assert sum(votes(Target(model, task=Classification(2)), pictures(1)[0], 96)) == 96


def test_witnesses_count_differing_answers() -> None:
    target, image = convolutional("tiny-cnn"), pictures(1)[0]
    model = NoisyModel(target, 3.0, "float32", (1, 16, 16), 64)
    assert model.stream(image, 0, 0).votes(64, witness=16)[1] == 0
    model.module = nn.Sequential(nn.Flatten(), nn.Linear(256, 5))
    assert 0 < model.stream(image, 0, 0).votes(64, witness=16)[1] <= 16


def test_mistakes() -> None:
    with pytest.raises(SettingError, match="dtype is 'half'"):
        NoisyModel(linear(), 0.5, "half", (1, 2, 2), 64)
    function = Target(lambda inputs: inputs.flatten(1), task=Classification(4))
    with pytest.raises(SettingError, match="plain function"):
        NoisyModel(function, 0.5, "bfloat16", (1, 2, 2), 64)
    with pytest.raises(ModelError, match="failed on noisy inputs"):
        votes(convolutional(), pictures(1, 9)[0], 8)
