"""Target: what it accepts, what it says of the rest, and that it changes nothing of its caller's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import DataError, ModelError, SettingError
from assay.subjects.target import Target
from assay.subjects.tasks import Classification, Normalize


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 5)
    )


def target(model=None, **more) -> Target:
    return Target(model or network().eval(), task=Classification(num_classes=5), **more)


IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.full((2, 3, 8, 8), float("nan")), "2 of 2 images hold NaN"),
        (torch.tensor([0.0, float("inf")]).reshape(2, 1).expand(2, 3), "1 of 2 images hold NaN or infinity"),
        (IMAGES + 1, "outside the bounds"),
        (IMAGES - 1e-4 - IMAGES.min(), "outside the bounds"),
        ((IMAGES * 255).to(torch.uint8), r"images\.float\(\) / 255"),
        ((IMAGES * 255).to(torch.int64), "int64"),
        (IMAGES[:0], "at least one sample"),
        (torch.zeros(3, 0), "at least one sample"),
        (torch.zeros(3), "at least one sample"),
    ],
)
def test_images_that_cannot_be_examined(images: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        target().check_images(images)


def test_rounding_at_the_bounds_is_forgiven_and_clipped() -> None:
    images = torch.tensor([[-9e-7, 1 + 9e-7, 0.5]])
    assert target().check_images(images).tolist() == [[0.0, 1.0, 0.5]]
    assert target(bounds=(-1, 2)).check_images(images).tolist() == images.tolist()
    for value in (-2e-6, 1 + 2e-6):
        with pytest.raises(DataError, match="outside the bounds"):
            target().check_images(torch.tensor([[value]]))


def test_images_of_other_kinds_become_float32() -> None:
    for given in (IMAGES.numpy(), IMAGES.double(), IMAGES.numpy().astype(np.float64), IMAGES.clone().requires_grad_()):
        images = target().check_images(given)
        assert images.dtype == torch.float32
        assert not images.requires_grad
        assert torch.equal(images, IMAGES)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 2, 5], "0 to 5; allowed: 0 to 4"),
        ([0, 1, 2, -1], "-1 to 2"),
        ([0, 1, 2], r"\(3,\) for 4 images"),
        ([[0], [1], [2], [3]], r"\(4, 1\)"),
        ([0.0, 1.0, 2.0, 3.0], "float32"),
        ([True, False, True, False], "bool"),
    ],
)
def test_labels_that_cannot_be_used(labels: list, words: str) -> None:
    with pytest.raises(DataError, match=words):
        target().check_labels(torch.tensor(labels), 4)


def test_labels_of_other_kinds_become_int64() -> None:
    for given in (np.array([0, 1, 2, 3], dtype=np.uint8), torch.tensor([0, 1, 2, 3], dtype=torch.int32), [0, 1, 2, 3]):
        assert torch.equal(target().check_labels(given, 4), torch.tensor([0, 1, 2, 3]))


def test_what_the_model_raises_names_shape_and_cause() -> None:
    with pytest.raises(ModelError, match=r"(?s)shape \(.*1, 8, 8\).*RuntimeError.*channels") as caught:
        target().logits(IMAGES[:, :1])
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ModelError, match="RuntimeError"):
        target().search_copy().logits(IMAGES[:, :1])
    with pytest.raises(ModelError, match="channels"):
        target(preprocess=Normalize([0.5, 0.5], [1, 1])).logits(IMAGES)

    def stopped(points: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target(stopped).logits(IMAGES)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": 3}, ModelError, "int"),
        ({"bounds": (1.0, 0.0)}, SettingError, "bounds"),
        ({"bounds": (0.0, 0.0)}, SettingError, "bounds"),
        ({"preprocess": lambda x: x}, SettingError, "preprocess"),
    ],
)
def test_targets_that_cannot_be_built(change: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        target(**change)


def test_answers_are_those_of_the_model_with_its_preprocessing() -> None:
    model, normalise = network().eval(), Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    expected = model(normalise(IMAGES)).detach()
    subject = target(model, preprocess=normalise)
    assert torch.allclose(subject.logits(IMAGES), expected, atol=1e-6)
    assert torch.allclose(subject.predict(IMAGES, batch_size=3), expected, atol=1e-6)
    assert torch.allclose(subject.search_copy().logits(IMAGES), expected, atol=1e-5)
    coarse = subject.search_copy(torch.bfloat16).logits(IMAGES)
    assert coarse.dtype == torch.float32
    assert torch.allclose(coarse, expected, atol=0.1)


def test_answers_of_transformers_are_unwrapped() -> None:
    body = network().eval()
    wrapped = target(lambda points: SimpleNamespace(logits=body(points)))
    assert torch.equal(wrapped.logits(IMAGES), target(body).logits(IMAGES))


def test_gradients_are_those_of_the_model_summed_and_by_the_raw_input() -> None:
    model, normalise = network().eval(), Normalize([0.4], [0.2])
    labels = torch.tensor([0, 1, 2, 3])
    leaf = IMAGES.clone().requires_grad_(True)
    value = nn.functional.cross_entropy(model(normalise(leaf)), labels, reduction="sum")
    (expected,) = torch.autograd.grad(value, leaf)
    searching = target(model, preprocess=normalise).search_copy()
    _, values, gradient = searching.value_and_gradient(
        IMAGES, lambda z, y: nn.functional.cross_entropy(z, y, reduction="none"), labels
    )
    assert torch.allclose(gradient, expected, atol=1e-5)
    assert float(values.sum()) == pytest.approx(float(value.detach()), rel=1e-5)
    assert all(p.grad is None for p in model.parameters())
    assert (searching.forward_passes, searching.backward_passes) == (4, 4)


def test_digest_hangs_on_weights_buffers_preprocessing_and_bounds() -> None:
    base = target().digest
    assert target().digest == base
    seen = {base}
    names = list(network().state_dict())
    for name in names:
        model = network().eval()
        value = model.state_dict()[name]
        value.reshape(-1)[-1:] += 1
        seen.add(target(model).digest)
    seen.add(target(preprocess=Normalize([0.5], [1.0])).digest)
    seen.add(target(preprocess=Normalize([0.5], [2.0])).digest)
    seen.add(target(bounds=(0, 2)).digest)
    assert len(seen) == 1 + len(names) + 3


def test_digest_does_not_hang_on_an_address_or_a_mode() -> None:
    first, second = (target(lambda points: points.flatten(1)[:, :5]).digest for _ in range(2))
    assert first == second
    assert target(network().train()).digest == target(network().eval()).digest


def test_modes_of_model_and_preprocessing_are_restored_and_randomness_is_private() -> None:
    class Jitter(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return points + torch.rand(()) if self.training else points

    model, preprocess = network().train(), Jitter()
    model[1].eval()
    subject = target(model, preprocess=preprocess)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    running = model[1].running_mean.clone()
    expected = network().eval()(IMAGES).detach()
    torch.set_rng_state(state)
    assert torch.allclose(subject.logits(IMAGES), expected, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model[1].training
    assert preprocess.training
    assert torch.equal(model[1].running_mean, running)
    assert [finding.code for finding in subject.findings] == ["train-mode"]


def test_the_mode_is_restored_when_the_model_fails() -> None:
    model = network().train()
    subject = target(model)
    with pytest.raises(ModelError):
        subject.logits(torch.zeros(1, 3, 2, 2))
    assert model.training
    with subject.undisturbed():
        assert not model.training
        with subject.undisturbed():
            assert not model.training
        assert not model.training
    assert model.training


def test_a_search_copy_shares_nothing() -> None:
    model = network().train()
    twin = target(model).search_copy()
    before = twin.logits(IMAGES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(twin.logits(IMAGES), before)
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_that_cannot_be_copied_is_named() -> None:
    model = network().eval()
    model.handle = (part for part in ())
    with pytest.raises(ModelError, match=r"Sequential cannot be copied \(TypeError"):
        target(model).search_copy()


def test_the_description_is_plain_and_complete() -> None:
    told = target(preprocess=Normalize([0.5], [0.25]), name="net").describe()
    assert told["name"] == "net"
    assert told["num_classes"] == 5
    assert told["parameters"] == sum(p.numel() for p in network().parameters())
    assert told["preprocess"] == "Normalize(mean=[0.5], std=[0.25])"
    assert told["bounds"] == [0.0, 1.0]
