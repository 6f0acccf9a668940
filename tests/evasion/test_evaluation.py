"""Evaluations: exact where the truth is known, and the same however the work is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import DataError, ModelError, SettingError
from assay.core.shards import Shards
from assay.evasion import evaluate, evaluate_grid
from assay.evasion.apgd import ApgdCE, ApgdTargeted
from assay.evasion.fab import FAB, FabTargeted
from assay.evasion.pgd import PGD
from assay.evasion.square import Square
from assay.evasion.standard import Standard
from assay.search.engine import Space, Work, search
from assay.search.objectives import margin
from assay.search.threat import ThreatModel
from assay.tensors.random import sample_seeds

from .models import as_target, exact_distances, small_cnn, softmax_regression, some

QUICK = Standard(steps=6, targets=2, queries=24)
LINF = ThreatModel("linf", 0.1)


def same(first, second) -> None:
    assert torch.equal(first.robust, second.robust)
    assert torch.equal(first.adversarial, second.adversarial)
    assert first.broken_by == second.broken_by


@pytest.mark.parametrize(
    ("kind", "budgets"),
    [("linf", (0.03, 0.08)), ("l2", (0.3, 0.6)), ("l1", (0.7, 2.0))],
)
def test_the_standard_attack_finds_the_exact_optimum_of_a_linear_model(kind: str, budgets: tuple[float, ...]) -> None:
    """Fewer steps and queries only weaken the attack: what is equal here is equal with the published numbers."""
    model, (images, labels) = softmax_regression(), some(100 if kind != "l1" else 60)
    exact = exact_distances(images, labels, model, kind)
    attack = Standard(steps=30, queries=20)
    shares = []
    for eps in budgets:
        result = evaluate(as_target(model), images, labels, ThreatModel(kind, eps), attack=attack)
        ties = np.abs(exact - eps) < 1e-5
        assert ties.sum() <= 1
        assert result.robust.numpy()[~ties].tolist() == (exact > eps)[~ties].tolist()
        assert result.findings == []
        shares.append(result.robust_accuracy.value)
    assert 0.02 < min(shares) < max(shares) < 0.98


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_batch_size_changes_nothing(kind: str) -> None:
    model, (images, labels) = small_cnn(), some(40)
    threat = ThreatModel(kind, {"linf": 0.1, "l2": 0.6, "l1": 1.5}[kind])
    attack = QUICK if kind == "linf" else [ApgdCE(steps=4), FabTargeted(steps=4, targets=2), Square(queries=12)]
    results = [
        evaluate(as_target(model), images, labels, threat, attack=attack, batch_size=size) for size in (1, 37, 256)
    ]
    for other in results[1:]:
        same(results[0], other)
        assert torch.equal(results[0].decision, other.decision)
    assert 0.1 < results[0].robust_accuracy.value < 0.9


def test_a_sample_keeps_its_result_in_another_order_and_company() -> None:
    model, (images, labels) = small_cnn(), some(40)
    whole = evaluate(as_target(model), images, labels, LINF, attack=QUICK, sample_ids=range(100, 140))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:23]
    part = evaluate(
        as_target(model), images[order], labels[order], LINF, attack=QUICK, sample_ids=(100 + order).tolist()
    )
    assert torch.equal(part.robust, whole.robust[order])
    assert torch.equal(part.adversarial, whole.adversarial[order])
    assert part.broken_by == [whole.broken_by[row] for row in order.tolist()]


def test_seeds_change_the_search_and_not_more() -> None:
    model, (images, labels) = small_cnn(), some(40)
    first, again, other = (
        evaluate(as_target(model), images, labels, LINF, attack=QUICK, seed=seed) for seed in (0, 0, 1)
    )
    same(first, again)
    assert not torch.equal(first.adversarial, other.adversarial)
    assert int((first.robust != other.robust).sum()) <= 2


class Killed(Exception):
    """Stands for a kill -9."""


class Dying(Shards):
    """A store that dies after some parts are kept."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder)
        self.after = after

    def put(self, key: str, /, **arrays: np.ndarray) -> None:
        if self.after == 0:
            raise Killed
        self.after -= 1
        super().put(key, **arrays)


@pytest.mark.parametrize("after", [1, 5])
def test_killed_and_resumed_is_the_same(tmp_path: Path, after: int) -> None:
    model, (images, labels) = small_cnn(), some(30)
    given = {"attack": QUICK, "batch_size": 8}
    straight = evaluate(as_target(model), images, labels, LINF, **given)
    with pytest.raises(Killed):
        evaluate(as_target(model), images, labels, LINF, **given, shards=Dying(tmp_path, after))
    resumed = evaluate(as_target(model), images, labels, LINF, **given, shards=Shards(tmp_path))
    same(straight, resumed)
    assert torch.equal(straight.decision, resumed.decision)
    assert (straight.cost.forward, straight.cost.backward) == (resumed.cost.forward, resumed.cost.backward)


def test_a_finished_store_asks_for_no_gradient(tmp_path: Path) -> None:
    model, (images, labels) = small_cnn(), some(20)
    attack = ApgdCE(steps=10)
    first = evaluate(as_target(model), images, labels, LINF, attack=attack, checks=False, shards=Shards(tmp_path))
    asked = []

    def counted(points: Tensor) -> Tensor:
        asked.append(points.requires_grad)
        return model(points)

    again = evaluate(as_target(counted), images, labels, LINF, attack=attack, checks=False, shards=Shards(tmp_path))
    same(first, again)
    assert not any(asked)


def test_two_attacks_of_one_name_do_not_share_their_kept_parts(tmp_path: Path) -> None:
    model, (images, labels) = small_cnn(), some(20)
    both = [PGD(steps=1, step_size=1e-4), PGD(steps=20)]
    kept = evaluate(as_target(model), images, labels, LINF, attack=both, shards=Shards(tmp_path))
    same(kept, evaluate(as_target(model), images, labels, LINF, attack=both))
    assert kept.robust_accuracy.value < 0.9


class Sensitive(nn.Module):
    """A network whose submodules have modes of their own, and which fails once it has been asked often enough."""

    def __init__(self, lives: int | None = None) -> None:
        super().__init__()
        self.body = small_cnn()
        self.drop = nn.Dropout(0.5)
        self.lives = lives

    def forward(self, points: Tensor) -> Tensor:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise RuntimeError("worn out")
        return self.drop(self.body(points))


@pytest.mark.parametrize("lives", [None, 0, 2, 7])
def test_the_callers_model_and_randomness_are_left_as_they_were(lives: int | None) -> None:
    model, (images, labels) = Sensitive(lives), some(24)
    model.train()
    model.body[4].eval()
    modes = [module.training for module in model.modules()]
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    given = images.clone()
    target = as_target(model)
    if lives is None:
        result = evaluate(target, images, labels, LINF, attack=QUICK)
        assert [finding.code for finding in result.findings] == ["train-mode"]
    else:
        with pytest.raises(ModelError, match="worn out"):
            evaluate(target, images, labels, LINF, attack=QUICK)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(images, given)


class Offset(nn.Module):
    """The same classifier with all logits raised: at 64 bfloat16 has steps of a half, at 1024 of eight."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.body, self.by = small_cnn(), by

    def forward(self, points: Tensor) -> Tensor:
        return self.body(points) + self.by


@pytest.mark.parametrize("by", [64.0, 1024.0])
def test_bfloat16_never_calls_robust_what_float32_breaks(by: float) -> None:
    model, (images, labels) = Offset(by).eval(), some(60)
    threat = ThreatModel("linf", 0.1)
    attacks = [ApgdCE(steps=20), ApgdTargeted(steps=20, targets=3)]
    exact, coarse = (
        evaluate(as_target(model), images, labels, threat, attack=attacks, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert bool((coarse.robust <= exact.robust).all())
    broken = coarse.correct & ~coarse.robust
    assert bool((model(coarse.adversarial[broken]).argmax(1) != labels[broken]).all())
    assert 0.1 < exact.robust_accuracy.value < 0.9


def test_dropping_samples_on_a_bfloat16_decision_would_overstate_robustness() -> None:
    """The mistake that the confirmation in float32 is there to prevent."""
    model, (images, labels) = Offset(64.0).eval(), some(60)
    target = as_target(model)
    threat = ThreatModel("linf", 0.1)
    correct = model(images).argmax(1) == labels
    rows = correct.nonzero()[:, 0]
    attack = PGD(steps=20, step_size=0.01, loss="margin")
    rule = attack.stages(threat, 10)[0].rule
    work = Work(
        centres=images[rows],
        reference=labels[rows],
        seeds=sample_seeds(0, rows.tolist(), "pgd", 0),
        owner=torch.arange(len(rows)),
    )
    naive = search(
        target.search_copy(torch.bfloat16),
        rule,
        margin,
        work,
        Space(threat, target.bounds),
        samples=len(rows),
        decision=target.task.margin,
    )
    truly = model(naive.points).argmax(1) != labels[rows]
    naive_robust = 1 - float((naive.found & truly).sum()) / len(images) - float((~correct).float().mean())
    ours = evaluate(target, images, labels, threat, attack=attack, precision="bfloat16")
    assert naive_robust > ours.robust_accuracy.value + 0.05


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_adversarial_examples_are_what_they_are_said_to_be(kind: str) -> None:
    model, (images, labels) = small_cnn(), some(50)
    threat = ThreatModel(kind, {"linf": 0.1, "l2": 0.6, "l1": 3.0}[kind])
    result = evaluate(as_target(model), images, labels, threat, attack=QUICK)
    correct = model(images).argmax(1) == labels
    assert torch.equal(result.correct, correct)
    broken = torch.tensor([name is not None for name in result.broken_by])
    assert torch.equal(broken, correct & ~result.robust)
    assert bool((model(result.adversarial[broken]).argmax(1) != labels[broken]).all())
    assert bool(threat.holds(result.adversarial, images, (0.0, 1.0)).all())
    assert torch.equal(result.adversarial[~broken], images[~broken])
    assert result.adversarial.dtype == torch.float32
    assert bool((result.decision[result.robust] >= 0).all())
    assert bool((result.decision[~result.robust] <= 0).all())


def test_budget_zero_breaks_nothing() -> None:
    images, labels = some(30)
    labels[:3] = (labels[:3] + 1) % 10
    for kind in ("linf", "l2", "l1"):
        result = evaluate(as_target(small_cnn()), images, labels, ThreatModel(kind, 0), attack=QUICK)
        assert torch.equal(result.robust, result.correct)
        assert torch.equal(result.adversarial, images)
        assert not bool(result.correct[:3].any())


@pytest.mark.parametrize(("kind", "eps"), [("linf", 5.0), ("l2", 100.0), ("l1", 1000.0)])
def test_budgets_beyond_the_box_break_all_and_stay_in_the_box(kind: str, eps: float) -> None:
    images, labels = some(20)
    result = evaluate(as_target(small_cnn()), images, labels, ThreatModel(kind, eps), attack=QUICK)
    assert not bool(result.robust.any())
    assert float(result.adversarial.min()) >= 0
    assert float(result.adversarial.max()) <= 1


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_few_classes(classes: int, kind: str) -> None:
    images, labels = some(300)
    rows = (labels < classes).nonzero()[:30, 0]
    model, images, labels = softmax_regression(classes), images[rows], labels[rows]
    exact = exact_distances(images, labels, model, kind)
    eps = float(np.median(exact))
    result = evaluate(
        as_target(model, classes), images, labels, ThreatModel(kind, eps), attack=Standard(steps=25, queries=15)
    )
    clear = np.abs(exact - eps) > 1e-5
    assert result.robust.numpy()[clear].tolist() == (exact > eps)[clear].tolist()


def test_misclassified_samples_are_neither_attacked_nor_counted_as_robust() -> None:
    images, labels = some(20)
    labels = (labels + 1) % 10
    asked = []

    def model(points: Tensor) -> Tensor:
        asked.append(len(points))
        return reference(points)

    reference = small_cnn()
    wrong = reference(images).argmax(1) != labels
    assert bool(wrong.all())
    result = evaluate(as_target(model), images, labels, LINF, attack=QUICK, checks=False)
    assert sum(asked) <= 24
    assert result.robust_accuracy.value == result.clean_accuracy.value == 0
    assert result.broken_by == [None] * 20
    assert torch.equal(result.adversarial, images)
    assert evaluate(as_target(model), images, labels, LINF, attack=QUICK).robust_accuracy.value == 0


def test_one_sample() -> None:
    images, labels = some(1)
    result = evaluate(as_target(small_cnn()), images, labels, ThreatModel("linf", 0.5), attack=QUICK)
    assert result.robust.tolist() == [False]
    assert result.clean_accuracy.n == result.robust_accuracy.n == 1
    assert result.robust_accuracy.lo == 0
    assert result.broken_by == ["apgd-ce"]


def test_a_grid_is_its_evaluations_with_what_smaller_budgets_broke() -> None:
    model, (images, labels) = small_cnn(), some(40)
    threats = [ThreatModel("linf", eps) for eps in (0.12, 0.02, 0.06)]
    attacks = [ApgdCE(steps=15), Square(queries=60)]
    grid = evaluate_grid(as_target(model), images, labels, threats, attack=attacks)
    alone = [evaluate(as_target(model), images, labels, threat, attack=attacks) for threat in threats]
    assert [result.threat for result in grid] == threats
    survivors = torch.ones(40, dtype=torch.bool)
    for place in (1, 2, 0):
        survivors &= alone[place].robust
        assert torch.equal(grid[place].robust, survivors)
    assert torch.equal(grid[1].adversarial, alone[1].adversarial)
    assert len({result.robust_accuracy.value for result in grid}) == 3


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_a_standard_grid_is_monotone_and_exact_on_a_linear_model(kind: str) -> None:
    model, (images, labels) = softmax_regression(), some(40)
    exact = exact_distances(images, labels, model, kind)
    budgets = [float(np.quantile(exact, share)) + 1e-4 for share in (0.8, 0.2, 0.5)]
    threats = [ThreatModel(kind, eps) for eps in budgets]
    for result in evaluate_grid(as_target(model), images, labels, threats, attack=Standard(steps=25, queries=15)):
        assert result.robust.tolist() == (exact > result.threat.eps).tolist()
        assert bool(result.threat.holds(result.adversarial, images, (0.0, 1.0)).all())


@pytest.mark.parametrize(("kind", "eps"), [("linf", 0.1), ("l2", 0.6), ("l1", 1.5)])
def test_untargeted_fab_comes_close_to_the_optimum_of_a_linear_model(kind: str, eps: float) -> None:
    """It follows the class that is nearest without the box, which is now and then not the nearest within."""
    model, (images, labels) = softmax_regression(), some(40)
    exact = exact_distances(images, labels, model, kind)
    robust = evaluate(as_target(model), images, labels, ThreatModel(kind, eps), attack=FAB(steps=40)).robust.numpy()
    assert bool(robust[exact > eps].all())
    assert not bool(robust[exact < 0.9 * eps].any())
    assert robust[exact <= eps].sum() <= 2


def test_the_parts_run_on_the_survivors_of_those_before() -> None:
    """What a first attack alone breaks is what it is credited with in company."""
    model, (images, labels) = small_cnn(), some(50)
    first = evaluate(as_target(model), images, labels, LINF, attack=PGD(steps=3))
    both = evaluate(as_target(model), images, labels, LINF, attack=[PGD(steps=3), ApgdCE(steps=30)])
    assert bool((both.robust <= first.robust).all())
    assert [name == "pgd" for name in both.broken_by] == [name == "pgd" for name in first.broken_by]
    assert "apgd-ce" in both.broken_by


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"attack": "apdg-ce"}, SettingError, "Did you mean 'apgd-ce'"),
        ({"attack": []}, SettingError, "empty list"),
        ({"precision": "float16"}, SettingError, "float16"),
        ({"batch_size": 0}, SettingError, "batch_size"),
        ({"batch_size": 2.5}, SettingError, "batch_size"),
        ({"eot": 0}, SettingError, "eot"),
        ({"sample_ids": [1, 1, 2, 3]}, SettingError, "3 distinct"),
        ({"images": torch.full((4, 1, 8, 8), float("nan"))}, DataError, "NaN"),
        ({"images": torch.full((4, 1, 8, 8), 1.5)}, DataError, "outside the bounds"),
        ({"images": torch.zeros(0, 1, 8, 8)}, DataError, "at least one sample"),
        ({"images": torch.zeros(4, 3, 8, 8)}, ModelError, r"\(.*3, 8, 8\)"),
        ({"labels": torch.tensor([0, 1, 2, 10])}, DataError, "0 to 9"),
        ({"labels": torch.tensor([0, 1])}, DataError, "4 images"),
    ],
)
def test_bad_input_is_named(change: dict, error: type, words: str) -> None:
    images, labels = some(4)
    given = {"images": images, "labels": labels, "attack": ApgdCE(steps=2), **change}
    with pytest.raises(error, match=words):
        evaluate(as_target(small_cnn()), given.pop("images"), given.pop("labels"), LINF, **given)


def test_thresholds_of_different_norms_are_not_a_grid() -> None:
    images, labels = some(4)
    with pytest.raises(SettingError, match="one norm"):
        evaluate_grid(as_target(small_cnn()), images, labels, [LINF, ThreatModel("l2", 1.0)])
