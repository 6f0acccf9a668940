"""Every backend against the plainest loop: random networks, batches of 0 and 1, views, microbatches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from assay.core.errors import InputError, ModelError, SettingError
from assay.subjects.networks import build_network
from assay.tensors.gradients import PerSample, SampleNorms, per_sample_gradients
from tests.tensors.gradients.networks import Case, cases, clip, clip_by_parameter, reference, sample_loss

BACKENDS = ("loop", "vmap", "layers", "layers-channels-last", "auto")


def engine(case: Case, backend: str) -> PerSample:
    return PerSample(case.model, sample_loss(case.views), backend=backend, microbatch=case.microbatch, views=case.views)


def agree(case: Case, backend: str, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    gradients, losses = reference(case)
    squares = torch.stack([value.flatten(1).square().sum(1) for value in gradients.values()], 1)
    subject = engine(case, backend)
    found = subject.gradients(case.inputs, case.labels)
    assert list(found) == list(gradients)
    for name, value in gradients.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol)
    norms = subject.norms(case.inputs, case.labels)
    assert norms.names == tuple(gradients)
    torch.testing.assert_close(norms.squares, squares, rtol=rtol, atol=atol)
    torch.testing.assert_close(norms.losses, losses, rtol=rtol, atol=atol)
    for weigh in (clip, clip_by_parameter):
        factors = weigh(SampleNorms(tuple(gradients), squares, losses))
        columns = factors[:, None].expand_as(squares) if factors.ndim == 1 else factors
        clipped = subject.clipped_sum(case.inputs, case.labels, weigh)
        torch.testing.assert_close(clipped.norms.squares, squares, rtol=rtol, atol=atol)
        for column, (name, value) in enumerate(gradients.items()):
            expected = torch.einsum("b,b...->...", columns[:, column], value)
            torch.testing.assert_close(clipped.gradients[name], expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("backend", ["layers", "layers-channels-last"])
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_layers_equal_the_loop(backend: str, case: Case) -> None:
    agree(case, backend)


@pytest.mark.parametrize("backend", ["loop", "vmap", "auto"])
@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_general_backends_equal_the_loop(backend: str, case: Case) -> None:
    agree(case, backend)


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_networks(backend: str, views: bool) -> None:
    torch.manual_seed(0)
    model = build_network("dp-cert-cnn", in_channels=1, num_classes=3, image_size=28)
    shape = (5, 2, 1, 28, 28) if views else (5, 1, 28, 28)
    agree(Case(model, torch.randn(shape), torch.randint(3, (5,)), views, None), backend, rtol=1e-4, atol=1e-5)


def small() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(18, 3))
    return model, torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_of_the_model_changes(backend: str) -> None:
    model, x, y = small()
    model[0].bias.requires_grad_(False)
    model[4].weight.grad = torch.ones(3, 18)
    model[1].eval()
    model[0].register_forward_hook(lambda layer, arguments, output: None)

    def state() -> tuple:
        return (
            [(p.requires_grad, p.grad is None, p.detach().clone().tolist()) for p in model.parameters()],
            [(m.training, list(m._forward_hooks), list(m._forward_pre_hooks)) for m in model.modules()],
            [sorted(vars(m)) for m in model.modules()],
        )

    before = state()
    subject = PerSample(model, F.cross_entropy, backend=backend)
    with torch.no_grad():
        subject.clipped_sum(x, y, clip)
        assert not torch.is_grad_enabled()
    assert state() == before
    assert model[4].weight.grad.eq(1).all()

    def broken(outputs: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("the loss failed")

    with pytest.raises(RuntimeError, match="the loss failed"):
        PerSample(model, broken, backend=backend).norms(x, y)
    with pytest.raises(RuntimeError):
        subject.norms(torch.randn(4, 2, 5, 5), y)
    assert state() == before


@pytest.mark.parametrize("backend", ["loop", "vmap", "layers"])
def test_microbatches_draw_the_same_numbers_in_both_passes(backend: str) -> None:
    model, x, y = small()
    subject = PerSample(model, F.cross_entropy, backend=backend, microbatch=2)
    torch.manual_seed(1)
    gradients = subject.gradients(x, y)
    after = torch.get_rng_state()
    norms = []

    def weigh(found: SampleNorms) -> Tensor:
        norms.append(found)
        return clip(found)

    torch.manual_seed(1)
    clipped = subject.clipped_sum(x, y, weigh)
    assert torch.equal(torch.get_rng_state(), after)
    assert len(norms) == 1
    for name, value in gradients.items():
        expected = torch.einsum("b,b...->...", clip(norms[0]), value)
        torch.testing.assert_close(clipped.gradients[name], expected, rtol=1e-5, atol=1e-7)


def test_the_choice_is_recorded_draws_nothing_and_can_be_set() -> None:
    model, x, y = small()
    subject = PerSample(model, F.cross_entropy)
    assert subject.chosen is None
    assert len(subject.norms(x[:0], y[:0]).losses) == 0
    assert subject.chosen is None  # nothing can be timed on an empty batch
    torch.manual_seed(3)
    first = subject.norms(x, y).losses
    assert subject.chosen in BACKENDS[:-1]
    again = PerSample(model, F.cross_entropy)
    again.chosen = subject.chosen
    torch.manual_seed(3)
    assert torch.equal(again.norms(x, y).losses, first)


def test_views_of_a_sample_are_one_sample() -> None:
    """With the mean loss over views, the gradient is the mean over views."""
    model, x, y = small()
    model.eval()
    views = torch.stack([x, x.flip(0)], 1)
    found = PerSample(model, lambda o, t: F.cross_entropy(o[0], t.expand(2)), backend="layers", views=True)
    single = PerSample(model, F.cross_entropy, backend="loop")
    one, two = single.gradients(x, y), single.gradients(x.flip(0), y)
    for name, value in found.gradients(views, y).items():
        torch.testing.assert_close(value, (one[name] + two[name]) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_that_are_not_finite_are_counted(backend: str) -> None:
    model, x, y = small()
    x[1] = float("nan")
    x[3] = float("inf")
    subject = PerSample(model.eval(), F.cross_entropy, backend=backend)
    for act in (subject.norms, subject.gradients, lambda *b: subject.clipped_sum(*b, clip)):
        with pytest.raises(InputError, match="2 of 4 samples"):
            act(x, y)


def test_bad_arguments_are_named() -> None:
    model, x, y = small()
    with pytest.raises(SettingError, match="Did you mean 'layers'"):
        PerSample(model, F.cross_entropy, backend="layer")
    with pytest.raises(SettingError, match="microbatch is 0"):
        PerSample(model, F.cross_entropy, microbatch=0)
    subject = PerSample(model, F.cross_entropy, backend="layers")
    with pytest.raises(InputError, match="4 inputs and 3 labels"):
        subject.norms(x, y[:3])
    with pytest.raises(InputError, match=r"factors of shape \[3\]"):
        subject.clipped_sum(x, y, lambda norms: torch.ones(3))
    with pytest.raises(InputError, match=r"one number .* not shape \[1, 3\]"):
        PerSample(model, lambda o, t: o, backend="layers").norms(x, y)
    with pytest.raises(ModelError, match="one tensor with a row"):
        PerSample(nn.Sequential(nn.Linear(5, 2), nn.Flatten(0)), F.mse_loss, backend="layers").norms(x[:, 0, 0], y)


def test_the_functional_door() -> None:
    model, x, y = small()
    found = per_sample_gradients(model.eval(), F.cross_entropy, x, y)
    expected = per_sample_gradients(model, F.cross_entropy, x, y, backend="loop")
    assert list(found) == ["0.weight", "0.bias", "4.weight", "4.bias"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
