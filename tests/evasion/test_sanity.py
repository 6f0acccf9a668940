"""Each known way to look robust without being it is noticed, and a healthy model is left in peace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import ModelError
from assay.evasion import evaluate
from assay.evasion.apgd import ApgdCE
from assay.evasion.pgd import PGD
from assay.evasion.square import Square
from assay.evasion.standard import Rand, Standard
from assay.search.threat import ThreatModel

from .models import as_target, small_cnn, softmax_regression, some

THREAT = ThreatModel("linf", 0.08)


def codes(model, attack, count: int = 40, threat: ThreatModel = THREAT, **more) -> dict[str, str]:
    images, labels = some(count)
    result = evaluate(as_target(model), images, labels, threat, attack=attack, **more)
    return {finding.code: finding.severity for finding in result.findings}


class Wrapped(nn.Module):
    """A network with something done to its inputs and outputs."""

    def __init__(self, body: nn.Module | None = None, before=None, after=None) -> None:
        super().__init__()
        self.body = body or small_cnn()
        self.before = before or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, points: Tensor) -> Tensor:
        return self.after(self.body(self.before(points)))


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
@pytest.mark.parametrize("make", [softmax_regression, small_cnn])
def test_a_healthy_model_raises_no_doubt(kind: str, make) -> None:
    threat = ThreatModel(kind, {"linf": 0.05, "l2": 0.3, "l1": 0.8}[kind])
    assert codes(make(), Standard(steps=20, targets=4, queries=60), 60, threat) == {}


def test_a_model_in_train_mode_is_mentioned() -> None:
    assert codes(small_cnn().train(), ApgdCE(steps=5)) == {"train-mode": "info"}


def test_rounded_inputs_stop_gradients_and_square_says_so() -> None:
    model = Wrapped(before=lambda points: (points * 4).round() / 4)
    found = codes(model, [ApgdCE(steps=10), Square(queries=300)], threat=ThreatModel("linf", 0.15))
    assert found["zero-gradient"] == "serious"
    assert found["black-box-beats-gradients"] == "serious"


def test_a_model_that_hides_its_gradient_altogether_is_the_same() -> None:
    body = small_cnn()

    def hidden(points: Tensor) -> Tensor:
        with torch.no_grad():
            return body(points)

    found = codes(hidden, [ApgdCE(steps=5), Square(queries=300)], threat=ThreatModel("linf", 0.15))
    assert found["zero-gradient"] == "serious"
    assert found["black-box-beats-gradients"] == "serious"


def test_noise_that_breaks_more_than_the_attack_counts_and_is_said() -> None:
    images, labels = some(40)
    model = Wrapped(before=lambda points: (points * 4).round() / 4)
    threat = ThreatModel("linf", 0.3)
    result = evaluate(as_target(model), images, labels, threat, attack=PGD(steps=3, random_start=False))
    by_noise = [row for row, name in enumerate(result.broken_by) if name == "noise"]
    assert by_noise
    assert not bool(result.robust[by_noise].any())
    assert bool((model(result.adversarial[by_noise]).argmax(1) != labels[by_noise]).all())
    assert {finding.code: finding.severity for finding in result.findings}["noise-beats-attack"] == "serious"


def test_gradients_that_lead_nowhere_survive_an_unlimited_budget() -> None:
    """Logits that follow the input with a gradient of zero almost everywhere."""
    model = Wrapped(softmax_regression(), before=lambda points: (points * 2).round() / 2)
    found = codes(model, PGD(steps=3, random_start=False), threat=ThreatModel("linf", 0.01))
    assert "zero-gradient" in found


def test_a_constant_model_survives_an_unlimited_budget() -> None:
    images, labels = some(20)
    model = Wrapped(after=lambda logits: logits * 0 + torch.arange(10.0))
    labels[:] = 9
    result = evaluate(as_target(model), images, labels, THREAT, attack=ApgdCE(steps=3))
    assert {finding.code for finding in result.findings} >= {"zero-gradient", "unlimited-budget"}


def test_probabilities_are_told_from_logits() -> None:
    found = codes(Wrapped(after=nn.Softmax(1)), ApgdCE(steps=5))
    assert found["probabilities"] == "serious"


def test_saturated_outputs_are_told_and_still_attacked() -> None:
    attack = Standard(steps=20, targets=4, queries=60)
    images, labels = some(40)
    saturated = evaluate(as_target(Wrapped(after=lambda logits: logits * 1e4)), images, labels, THREAT, attack=attack)
    plain = evaluate(as_target(small_cnn()), images, labels, THREAT, attack=attack)
    assert "saturated" in {finding.code for finding in saturated.findings}
    assert saturated.robust_accuracy.value <= plain.robust_accuracy.value + 0.05


class DropoutInEval(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = small_cnn()

    def forward(self, points: Tensor) -> Tensor:
        return self.body(nn.functional.dropout(points, 0.3, training=True))


def test_a_randomised_model_is_told_and_averaging_breaks_no_promise() -> None:
    assert codes(DropoutInEval(), ApgdCE(steps=5))["randomised"] == "serious"
    images, labels = some(24)
    target = as_target(DropoutInEval().eval())
    state = torch.get_rng_state()
    result = evaluate(target, images, labels, THREAT, attack=Rand(steps=5, eot=4))
    again = evaluate(target, images, labels, THREAT, attack=Rand(steps=5, eot=4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(result.robust, again.robust)
    assert result.robust_accuracy.value < result.clean_accuracy.value


def test_a_randomised_model_without_checks_is_refused() -> None:
    images, labels = some(30)
    with pytest.raises(ModelError, match="attack='rand'"):
        evaluate(as_target(DropoutInEval()), images, labels, THREAT, attack=ApgdCE(steps=10), checks=False)


def test_gradients_that_are_not_finite_are_told_and_do_not_stop_the_search() -> None:
    """A root at 0, where many pixels of the digits lie, has an infinite slope."""
    images, labels = some(40)
    model = Wrapped(before=lambda points: points + 0.02 * points.sqrt())
    result = evaluate(as_target(model), images, labels, ThreatModel("linf", 0.2), attack=ApgdCE(steps=20))
    assert {finding.code: finding.severity for finding in result.findings}["non-finite-gradient"] == "serious"
    assert bool(torch.isfinite(result.adversarial).all())
    assert result.robust_accuracy.value < 0.5


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda logits: logits * float("nan"), "NaN or infinity"),
        (lambda logits: logits / 0, "NaN or infinity"),
        (lambda logits: logits[:, :7], r"\(\d+, 7\)"),
        (lambda logits: logits.sum(1), r"shape \(\d+,\)"),
        (lambda logits: logits.argmax(1), "int64"),
        (lambda logits: logits.tolist(), "list"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(after, words: str) -> None:
    images, labels = some(10)
    with pytest.raises(ModelError, match=words):
        evaluate(as_target(Wrapped(after=after)), images, labels, THREAT, attack=ApgdCE(steps=2))


def test_a_model_that_is_nan_only_under_attack_is_refused_and_not_called_robust() -> None:
    images, labels = some(20)
    limit = images.flatten(1).sum(1).max() + 0.5

    def brittle(logits_of: Tensor) -> Tensor:
        return torch.where(logits_of.flatten(1).sum(1).reshape(-1, 1, 1, 1) > limit, float("nan"), logits_of)

    with pytest.raises(ModelError, match="NaN or infinity"):
        evaluate(as_target(Wrapped(before=brittle)), images, labels, ThreatModel("linf", 0.3), attack=ApgdCE(steps=5))
