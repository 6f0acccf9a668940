"""What has no gradients of single samples is refused; what one backend cannot run goes to another."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.errors import ModelError, NotYetSupported, Unsupported
from assay.tensors.gradients import PerSample, check_module

X, Y = torch.linspace(-1, 1, 32).view(4, 8).sin(), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("layer", "remedy"),
    [
        (nn.BatchNorm1d(8), "GroupNorm(8, 8)"),
        (nn.BatchNorm2d(48), "GroupNorm(16, 48)"),
        (nn.BatchNorm3d(7), "GroupNorm(1, 7)"),
        (nn.SyncBatchNorm(64), "GroupNorm(32, 64)"),
        (nn.LazyBatchNorm2d(), "GroupNorm(num_groups, channels)"),
        (nn.InstanceNorm1d(8, track_running_stats=True), "track_running_stats=False"),
        (nn.Embedding(4, 3, scale_grad_by_freq=True), "scale_grad_by_freq=False"),
        (nn.EmbeddingBag(4, 3, max_norm=1.0), "max_norm=None"),
    ],
)
def test_layers_that_mix_samples_are_refused_with_a_remedy(layer: nn.Module, remedy: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Tanh(), layer)).eval()
    for act in (check_module, lambda model: PerSample(model, F.cross_entropy)):
        with pytest.raises(Unsupported) as caught:
            act(model)
        assert "'1.1'" in str(caught.value)
        assert remedy in str(caught.value)


def test_a_model_without_trained_parameters_is_refused() -> None:
    with pytest.raises(ModelError, match="requires_grad"):
        check_module(nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.ReLU()))


class Twice(nn.Module):
    """One layer, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.outer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it twice."""
        return self.outer(self.inner(self.inner(x).tanh()).tanh())


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.tied, self.outer = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.tied.weight = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        return self.outer(self.tied(self.inner(x).tanh()).tanh())


class Functional(nn.Module):
    """A layer whose weight is also read past it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Use the weight once as a layer and once as a matrix."""
        return self.outer(F.linear(self.inner(x).tanh(), self.inner.weight).tanh())


class Own(nn.Module):
    """A parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.outer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Scale, then map."""
        return self.outer(x * self.scale)


class Table(nn.Module):
    """A position table without a batch dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.outer = nn.Embedding(8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add the table to every sample."""
        return self.outer(x + self.positions(torch.arange(8))[:, 0])


class Turned(nn.Module):
    """Samples in the second dimension; with 4 positions and 4 samples only the values can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Positions first, inside."""
        return self.outer(self.inner(x.view(-1, 4, 2).transpose(0, 1)).tanh().transpose(0, 1).flatten(1))


class Half(nn.Module):
    """A layer whose input is changed in place behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Change the input after it was read."""
        x = x + 0
        y = self.inner(x)
        return self.outer(y + x.mul_(2))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Twice, "'inner' is used 2 times"),
        (Tied, "'inner.weight' is shared"),
        (Functional, "'weight' of layer 'inner' is also read outside"),
        (Own, r"'' \(Own\) has parameters scale"),
        (Table, r"'positions' reads an input of shape \[8\]"),
        (Turned, r"'inner' reads an input of shape \[4, 1, 2\]"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)), "ParametrizedLinear"),
    ],
)
def test_what_layers_cannot_do_is_named_and_left_to_vmap(model: type[nn.Module], named: str) -> None:
    torch.manual_seed(0)
    module = model()
    with pytest.raises(NotYetSupported, match=named):
        PerSample(module, F.cross_entropy, backend="layers").norms(X, Y)
    subject = PerSample(module, F.cross_entropy)
    expected = PerSample(module, F.cross_entropy, backend="loop").gradients(X, Y)
    for name, value in subject.gradients(X, Y).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    assert subject.chosen == "vmap"


def test_inputs_that_are_changed_behind_a_layer_are_noticed() -> None:
    with pytest.raises(NotYetSupported, match="'inner' was changed in place"):
        PerSample(Half(), F.cross_entropy, backend="layers").norms(X, Y)


def test_a_model_that_mixes_samples_is_told_by_its_values() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x)
            return self.outer((y - y.mean(0)).tanh())

    with pytest.raises(NotYetSupported, match="mixes samples"):
        PerSample(Centred(), F.cross_entropy, backend="layers").norms(X, Y)


def test_control_flow_goes_to_the_loop() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.one(row[None]) if float(row.sum()) > 0 else self.two(row[None]) for row in x])

    model = Branches()
    subject = PerSample(model, F.cross_entropy)
    found = subject.gradients(X, Y)
    assert subject.chosen == "loop"
    positive = X.sum(1) > 0
    assert 0 < positive.sum() < 4
    assert found["one.weight"][~positive].eq(0).all()
    assert found["two.weight"][positive].eq(0).all()
    assert found["one.weight"][positive].ne(0).any()


@pytest.mark.parametrize("backend", ["vmap", "layers", "auto"])
def test_a_loss_that_vmap_cannot_run_is_run_by_the_loop(backend: str) -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        assert outputs.shape == (1, 3)
        return F.cross_entropy(outputs, labels) * (2 if int(labels) == 1 else 1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    expected = PerSample(model, loss, backend="loop").gradients(X, Y)
    if backend == "vmap":
        with pytest.raises(RuntimeError):
            PerSample(model, loss, backend=backend).gradients(X, Y)
        return
    for name, value in PerSample(model, loss, backend=backend).gradients(X, Y).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", ["layers", "vmap"])
def test_parameters_read_by_the_loss_are_noticed(backend: str) -> None:
    model = nn.Sequential(nn.Linear(8, 3))

    def decayed(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels) + model[0].weight.square().sum()

    with pytest.raises((NotYetSupported, Unsupported), match=r"outside the layer|past the module"):
        PerSample(model, decayed, backend=backend).norms(X, Y)
    subject = PerSample(model, decayed)
    own = PerSample(model, F.cross_entropy, backend="loop").gradients(X, Y)["0.weight"]
    torch.testing.assert_close(subject.gradients(X, Y)["0.weight"], own + 2 * model[0].weight.detach())
    assert subject.chosen == "loop"


@pytest.mark.parametrize("backend", ["loop", "vmap", "layers", "auto"])
def test_parameters_that_the_loss_does_not_use_have_gradient_zero(backend: str) -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.ignored, self.uncalled = nn.Linear(8, 3), nn.Linear(8, 3), nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.ignored(x)
            return self.used(x)

    found = PerSample(Spare(), F.cross_entropy, backend=backend).gradients(X, Y)
    assert list(found) == [f"{n}.{p}" for n in ("used", "ignored", "uncalled") for p in ("weight", "bias")]
    assert found["ignored.weight"].eq(0).all()
    assert found["uncalled.weight"].shape == (4, 1, 1, 1, 1)
    assert found["uncalled.weight"].eq(0).all()
    assert found["used.weight"].flatten(1).ne(0).any(1).all()


def test_hooks_that_change_outputs_are_followed() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].register_forward_hook(lambda layer, arguments, output: 3 * output)
    model[2].register_forward_pre_hook(lambda layer, arguments: (arguments[0].square(),))
    expected = PerSample(model, F.cross_entropy, backend="loop").gradients(X, Y)
    for name, value in PerSample(model, F.cross_entropy, backend="layers").gradients(X, Y).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_freezing_is_noticed_between_calls() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    subject = PerSample(model, F.cross_entropy, backend="layers")
    assert len(subject.norms(X, Y).names) == 4
    model[0].requires_grad_(False)
    assert subject.norms(X, Y).names == ("2.weight", "2.bias")
    assert list(subject.clipped_sum(X, Y, lambda norms: norms.losses).gradients) == ["2.weight", "2.bias"]
