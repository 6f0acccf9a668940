"""The loss of DyART against its equation, and its gradient against that of the margin itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay import Classification, Target
from assay.boundary import Priority, dyart_loss, soft_margin
from assay.core.errors import DataError, SettingError

X = torch.tensor([[0.2, 0.7, 0.4], [0.9, 0.1, 0.5], [0.3, 0.3, 0.8], [0.6, 0.4, 0.1]])
Y = torch.tensor([0, 1, 1, 0])


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def batch() -> dict[str, Tensor]:
    points = (X + torch.tensor([0.05, -0.02, 0.03])).clamp(0, 1)
    found = torch.tensor([True, True, False, True])
    distance = torch.tensor([0.05, 0.02, math.inf, 0.5])
    return {"images": X, "labels": Y, "points": points, "distance": distance, "found": found}


@pytest.mark.parametrize(("norm", "q"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("unit", ["raw", "r0"])
def test_the_equation_written_out(norm: str, q: int, unit: str) -> None:
    model, given = small_network(), batch()
    loss, parts = dyart_loss(model, **given, alpha=2.0, r0=0.1, weight=7.0, temperature=3.0, norm=norm, alpha_unit=unit)
    total = F.cross_entropy(model(X), Y)
    for row in (0, 1):  # row 2 is not found, row 3 is beyond r0
        point = given["points"][row : row + 1].clone().requires_grad_()
        phi = soft_margin(model(point), Y[row : row + 1], 3.0)
        (gradient,) = torch.autograd.grad(phi.sum(), point, retain_graph=True)
        scale = 2.0 / 0.1 if unit == "r0" else 2.0
        w = math.exp(-scale * float(given["distance"][row])) / float(gradient.norm(q))
        assert float(parts["weights"][row]) == pytest.approx(w, rel=1e-5)
        total = total + 7.0 * w * -phi.squeeze() / 4
    assert parts["weights"][2:].tolist() == [0.0, 0.0]
    assert math.isnan(float(parts["slope"][3]))
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(loss, parts["clean"] + 7.0 * parts["boundary"])
    mine = torch.autograd.grad(loss, list(model.parameters()))
    theirs = torch.autograd.grad(total, list(model.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("norm", "q"), [("linf", 1), ("l2", 2)])
def test_on_a_linear_model_its_gradient_is_that_of_the_truncated_exponential_of_the_margin(norm: str, q: int) -> None:
    """∇ mean h(R), h = exp(-αR)/α, R = φ(x) / ||w||_q in closed form, differentiated by autograd."""
    torch.manual_seed(1)
    model = nn.Linear(3, 2).double()
    x = X.double()
    with torch.no_grad():
        labels = model(x).argmax(1)

    def margins() -> tuple[Tensor, Tensor]:
        w = (model.weight[0] - model.weight[1]) * (1 - 2 * labels.double())[:, None]
        b = (model.bias[0] - model.bias[1]) * (1 - 2 * labels.double())
        return ((w * x).sum(1) + b) / w.norm(q, dim=1), w

    distance, w = margins()
    step = w.sign() if norm == "linf" else w / w.norm(2, dim=1, keepdim=True)
    points = (x - distance[:, None] * step).detach()
    _, parts = dyart_loss(
        model, x, labels, points, distance.detach(), torch.ones(4, dtype=torch.bool), alpha=1.5, r0=10.0, norm=norm
    )
    expected = ((-1.5 * distance).exp() / 1.5).mean()
    mine = torch.autograd.grad(parts["boundary"], list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_batch_without_boundary_points_is_the_clean_loss() -> None:
    model, given = small_network(), batch()
    given["found"] = torch.zeros(4, dtype=torch.bool)
    loss, parts = dyart_loss(model, **given)
    torch.testing.assert_close(loss, F.cross_entropy(model(X), Y))
    assert float(parts["boundary"]) == 0.0
    loss.backward()


def test_a_point_without_slope_has_no_weight() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    loss, parts = dyart_loss(model, **batch())
    assert parts["weights"].tolist() == [0.0] * 4
    assert math.isfinite(float(loss.detach()))


def test_it_is_normalised_by_the_whole_batch() -> None:
    model, given = small_network(), batch()
    twice = {name: torch.cat([value, value]) for name, value in given.items()}
    twice["found"][4:] = False
    once, doubled = (dyart_loss(model, **values)[1]["boundary"] for values in (given, twice))
    torch.testing.assert_close(doubled, once / 2)


def test_a_target_sees_its_preprocessing_and_batch_statistics_are_updated_by_the_clean_images_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    loss, parts = dyart_loss(Target(network, task=Classification(2), preprocess=nn.Identity()), **batch())
    statistics = network[0]
    assert statistics.num_batches_tracked == 1
    torch.testing.assert_close(statistics.running_mean, 0.1 * X.mean(0))
    assert network.training
    assert all(module.training for module in network.modules())
    again = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    again.load_state_dict(network.state_dict())
    phi = soft_margin(again(batch()["points"]), Y)
    torch.testing.assert_close(parts["phi"][:2], phi[:2].detach())
    loss.backward()


def test_bad_arguments_are_named() -> None:
    model, given = small_network(), batch()
    for changes, match in [
        ({"points": X[:2]}, "points have shape"),
        ({"distance": torch.zeros(3)}, "distance has shape"),
        ({"found": torch.ones(4)}, "booleans"),
        ({"distance": -torch.ones(4)}, "negative"),
        ({"images": X[:0]}, "empty"),
    ]:
        with pytest.raises(DataError, match=match):
            dyart_loss(model, **{**given, **changes})
    for name, value in [("alpha", -1.0), ("r0", 0.0), ("weight", -1.0), ("norm", "linff"), ("alpha_unit", "pixel")]:
        with pytest.raises(SettingError, match="alpha" if name == "alpha_unit" else name):
            dyart_loss(model, **given, **{name: value})


def test_the_published_factor_hardly_falls_and_the_scaled_one_does() -> None:
    distance = torch.tensor([0.0, 16 / 255 * 0.999, 16 / 255])
    published, scaled = Priority(3.0, 16 / 255), Priority(3.0, 16 / 255, "r0")
    torch.testing.assert_close(published.factor(distance), torch.tensor([1.0, 0.8286, 0.0]), rtol=1e-3, atol=0)
    torch.testing.assert_close(scaled.factor(distance), torch.tensor([1.0, 0.0499, 0.0]), rtol=1e-2, atol=0)
