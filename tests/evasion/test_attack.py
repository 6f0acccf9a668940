"""attack(): what is promised of the worst points, for every objective and method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay.core.shards import Shards
from assay.evasion import attack
from assay.evasion.objectives.depth import TooNear
from assay.evasion.objectives.registry import DEFAULTS, OBJECTIVES
from assay.evasion.objectives.segmentation import CosPGD
from assay.search.ascent import random_start
from assay.search.engine import Space, Work
from assay.search.threat import ThreatModel
from assay.subjects.dense_tasks import Embedding, Segmentation
from assay.subjects.target import Target
from assay.tensors import losses
from assay.tensors.random import sample_seeds

from . import tasks

EPS = {"linf": 0.06, "l2": 0.6, "l1": 6.0}
PAIRS = [(name, task) for name, card in OBJECTIVES.items() for task in card.tasks]


def run(task: str, name: str | None = None, count: int = 5, norm: str = "linf", **options):
    settings = {"steps": 6, **options}
    return attack(
        tasks.subject(task),
        tasks.images(count),
        tasks.references(task, count),
        ThreatModel(norm, EPS[norm]),
        name,
        **settings,
    )


def test_every_task_has_a_default_objective() -> None:
    assert set(DEFAULTS) == {task for _, task in PAIRS}
    assert all(task in OBJECTIVES[name].tasks for task, name in DEFAULTS.items())


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_what_is_promised_of_every_objective(name: str, task: str) -> None:
    subject, count = tasks.subject(task), 5
    inputs, known, threat = tasks.images(count), tasks.references(task, count), ThreatModel("linf", EPS["linf"])
    modules = [subject.backbone if task == "embedding" else subject.model]
    before = {key: value.clone() for key, value in modules[0].state_dict().items()}
    state = torch.random.get_rng_state()
    found = attack(subject, inputs, known, threat, name, steps=6)
    assert threat.holds(found.adversarial, inputs, (0.0, 1.0)).all()
    assert torch.isfinite(found.loss).all()
    assert found.objective == name
    assert not found.excluded.any()
    assert (found.success is None) == (task in ("depth", "embedding"))
    assert set(found.strongest_by) != {"clean"}
    if task in ("depth", "embedding"):
        assert (found.loss >= found.clean_loss).all()
        assert found.loss.mean() > found.clean_loss.mean()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(value.grad is None and value.requires_grad for value in modules[0].parameters())
    assert all(torch.equal(value, before[key]) for key, value in modules[0].state_dict().items())
    assert found.cost.backward <= 6 * count * (4 if name == "sea" else 1)


@pytest.mark.parametrize("method", ["pgd", "apgd", "radii"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("task", list(DEFAULTS))
def test_every_method_and_norm_does_harm_within_the_ball(task: str, norm: str, method: str) -> None:
    found = run(task, norm=norm, method=method, steps=12)
    inputs = tasks.images(5)
    assert ThreatModel(norm, EPS[norm]).holds(found.adversarial, inputs, (0.0, 1.0)).all()
    if task == "segmentation":
        target, truth = tasks.segmenter(), tasks.masks(5)
        clean = tasks.pixel_accuracy(target.logits(inputs), truth)
        attacked = tasks.pixel_accuracy(target.logits(found.adversarial), truth)
        assert (attacked <= clean).all()
        assert attacked.mean() < clean.mean() - 0.02
    else:
        assert found.loss.mean() > found.clean_loss.mean()


@pytest.mark.parametrize("task", list(DEFAULTS))
@pytest.mark.parametrize("method", ["pgd", "apgd"])
def test_results_do_not_hang_on_the_batch(task: str, method: str) -> None:
    whole = run(task, count=7, method=method, restarts=2)
    small = run(task, count=7, method=method, restarts=2, batch_size=2)
    rows, references = torch.tensor([5, 2]), tasks.references(task, 7)
    threat = ThreatModel("linf", EPS["linf"])
    part = attack(
        tasks.subject(task),
        tasks.images(7)[rows],
        None if references is None else references[rows],
        threat,
        method=method,
        steps=6,
        restarts=2,
        sample_ids=rows.tolist(),
    )
    for other, mine in ((small, slice(None)), (part, rows)):
        assert torch.equal(other.adversarial, whole.adversarial[mine])
        assert torch.equal(other.loss, whole.loss[mine])
    assert small.strongest_by == whole.strongest_by
    assert small.cost.backward == whole.cost.backward
    assert not torch.equal(run(task, count=7, method=method, restarts=2, seed=1).adversarial, whole.adversarial)


@pytest.mark.parametrize("task", list(DEFAULTS))
def test_more_restarts_are_never_weaker(task: str) -> None:
    one, three = run(task), run(task, restarts=3)
    if task == "segmentation":
        target, truth = tasks.segmenter(), tasks.masks(5)
        shares = [tasks.pixel_accuracy(target.logits(found.adversarial), truth) for found in (one, three)]
        assert (shares[1] <= shares[0]).all()
    else:
        open_rows = ~one.success if one.success is not None else slice(None)
        assert (three.loss[open_rows] >= one.loss[open_rows]).all()
    later = [name for name in three.strongest_by if "/" in name]
    assert all(name.split("/")[1] in ("1", "2") for name in later)
    assert later


def start_of(inputs: torch.Tensor, threat: ThreatModel, name: str) -> torch.Tensor:
    count = len(inputs)
    seeds = sample_seeds(0, range(count), "attack", name, 0)
    work = Work(centres=inputs, reference=inputs, seeds=seeds, owner=torch.arange(count))
    return random_start(work, Space(threat, (0.0, 1.0)))


def test_the_embedding_attack_is_the_plain_loop() -> None:
    encoder, inputs, threat = tasks.encoder(), tasks.images(5), ThreatModel("linf", EPS["linf"])
    found = attack(encoder, inputs, None, threat, "embedding-l2", steps=6, step_size=0.02)
    clean = encoder.embed(inputs)
    points, best = start_of(inputs, threat, "embedding-l2"), torch.zeros(5)
    for _ in range(7):
        leaf = points.requires_grad_(True)
        loss = (encoder.backbone((leaf - 0.5) / 0.25).embedding - clean).square().mean(1)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        best = torch.maximum(best, loss.detach())
        points = (leaf.detach() + 0.02 * gradient.sign()).clamp(inputs - threat.eps, inputs + threat.eps).clamp(0, 1)
    torch.testing.assert_close(found.loss, best, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close((encoder.embed(found.adversarial) - clean).square().mean(1), found.loss)
    assert (found.clean_loss == 0).all()


def test_segpgd_is_the_plain_loop_and_keeps_the_point_of_lowest_accuracy() -> None:
    target, truth, inputs = tasks.segmenter(), tasks.masks(5), tasks.images(5)
    threat, steps = ThreatModel("linf", EPS["linf"]), 6
    found = attack(target, inputs, truth, threat, "seg-pgd", steps=steps, step_size=0.02)
    points = start_of(inputs, threat, "seg-pgd")
    lowest = tasks.pixel_accuracy(target.logits(inputs), truth)
    for step in range(steps + 1):
        leaf = points.requires_grad_(True)
        logits = F.interpolate(target.model((leaf - 0.5) / 0.2), size=inputs.shape[-2:], mode="bilinear")
        lowest = torch.minimum(lowest, tasks.pixel_accuracy(logits, truth))
        entropy = F.cross_entropy(logits, truth, ignore_index=tasks.IGNORED, reduction="none")
        right, share = logits.argmax(1) == truth, step / (2 * steps)
        total = torch.where(right, (1 - share) * entropy, share * entropy).sum((1, 2))
        (gradient,) = torch.autograd.grad(total.sum(), leaf)
        points = (leaf.detach() + 0.02 * gradient.sign()).clamp(inputs - threat.eps, inputs + threat.eps).clamp(0, 1)
    logits = target.logits(found.adversarial)
    torch.testing.assert_close(tasks.pixel_accuracy(logits, truth), lowest)
    torch.testing.assert_close(found.loss, losses.ce(logits, truth))


def test_sea_is_the_worst_of_its_four_losses() -> None:
    target, truth = tasks.segmenter(), tasks.masks(6)
    singles = [
        tasks.pixel_accuracy(target.logits(run("segmentation", name, 6, method="radii", steps=10).adversarial), truth)
        for name in OBJECTIVES["sea"].members
    ]
    together = run("segmentation", "sea", 6, steps=10)
    shares = tasks.pixel_accuracy(target.logits(together.adversarial), truth)
    torch.testing.assert_close(shares, torch.stack(singles).amin(0))
    assert set(together.strongest_by) <= {*OBJECTIVES["sea"].members, "clean"}


def test_success_of_a_classifier_is_a_wrong_class_and_of_segmentation_not_one_right_pixel() -> None:
    target, inputs, known = tasks.classifier(), tasks.images(8), tasks.labels(8)
    found = attack(target, inputs, known, ThreatModel("linf", 0.15), "margin", steps=10)
    wrong = target.predict(found.adversarial).argmax(1) != known
    assert torch.equal(found.success, wrong)
    assert found.success.any()
    assert torch.equal(found.loss > 0, wrong)
    target, truth = tasks.segmenter(), tasks.masks(8)
    wide = attack(target, inputs, truth, ThreatModel("linf", 1.0), "masked-ce", method="apgd", steps=40)
    shares = tasks.pixel_accuracy(target.logits(wide.adversarial), truth)
    assert torch.equal(wide.success, shares == 0)


def test_depth_can_be_driven_near_or_far() -> None:
    target, inputs, truth = tasks.depther(), tasks.images(5), tasks.depths(5)
    threat = ThreatModel("linf", 0.1)
    mean = [
        float(target.logits(attack(target, inputs, truth, threat, name, steps=10).adversarial).mean())
        for name in ("too-near", "too-far")
    ]
    clean = float(target.logits(inputs).mean())
    assert mean[0] < clean < mean[1]
    nearer = attack(target, inputs, truth, threat, TooNear(factor=0.1), steps=10)
    assert (nearer.loss > nearer.clean_loss).all()
    assert (nearer.loss <= 0).all()


def test_the_full_scale_invariant_error_beats_its_mean_at_its_own_measure() -> None:
    target, truth = tasks.depther(), tasks.depths(6)
    found = {name: run("depth", name, 6, steps=15) for name in ("silog", "silog-mean")}
    measure = {
        name: losses.silog(target.logits(item.adversarial), truth, valid=target.task.valid(truth)).mean()
        for name, item in found.items()
    }
    torch.testing.assert_close(measure["silog"], found["silog"].loss.mean())
    assert measure["silog"] >= measure["silog-mean"]


def test_patches_and_both_spaces_of_an_encoder() -> None:
    encoder, inputs, threat = tasks.encoder(), tasks.images(4), ThreatModel("linf", 0.05)
    patches = attack(encoder, inputs, None, threat, "embedding-patch-cosine", steps=5)
    cosine = 1 - F.cosine_similarity(encoder.patches(patches.adversarial), encoder.patches(inputs), dim=1)
    torch.testing.assert_close(patches.loss, cosine.mean((1, 2)), rtol=1e-3, atol=1e-6)
    both = attack(encoder, inputs, None, threat, "embedding-both-cosine", steps=5)
    embedding = 1 - F.cosine_similarity(encoder.embed(both.adversarial), encoder.embed(inputs), dim=1)
    cosine = 1 - F.cosine_similarity(encoder.patches(both.adversarial), encoder.patches(inputs), dim=1)
    torch.testing.assert_close(both.loss, embedding + cosine.mean((1, 2)), rtol=1e-3, atol=1e-6)
    given = attack(encoder, inputs, encoder.embed(inputs), threat, "embedding-l2", steps=5)
    alone = attack(encoder, inputs, None, threat, "embedding-l2", steps=5)
    torch.testing.assert_close(given.adversarial, alone.adversarial)
    target = attack(tasks.embedding_target(), inputs, None, threat, "embedding-l2", steps=5)
    assert torch.equal(target.adversarial, alone.adversarial)


def test_other_references_than_the_clean_ones() -> None:
    """Driven away from another image's embedding, the loss starts above zero."""
    encoder, inputs = tasks.encoder(), tasks.images(4)
    found = attack(encoder, inputs, encoder.embed(inputs.flip(0)), ThreatModel("l2", 0.5), "embedding-cosine", steps=5)
    assert (found.clean_loss > 0).all()
    assert (found.loss > found.clean_loss).all()


def test_without_a_budget_nothing_moves() -> None:
    found = attack(tasks.encoder(), tasks.images(3), None, ThreatModel("linf", 0))
    assert torch.equal(found.adversarial, tasks.images(3))
    assert found.strongest_by == ["clean"] * 3
    assert found.cost.backward == 0
    assert found.findings == []


@pytest.mark.parametrize("task", list(DEFAULTS))
def test_a_finished_attack_is_not_repeated(task: str, tmp_path: Path) -> None:
    whole = run(task, count=6)
    first = run(task, count=6, batch_size=4, shards=Shards(tmp_path))
    assert len(Shards(tmp_path)) == 2
    next(tmp_path.glob("*.npz")).unlink()
    store = Shards(tmp_path)
    again = run(task, count=6, batch_size=4, shards=store)
    assert len(store) == 2
    for found in (first, again):
        assert torch.equal(found.adversarial, whole.adversarial)
        assert torch.equal(found.loss, whole.loss)
        assert torch.equal(found.clean_loss, whole.clean_loss)
        assert found.strongest_by == whole.strongest_by
        assert (found.success is None) == (whole.success is None)
        assert (found.cost.forward, found.cost.backward) == (whole.cost.forward, whole.cost.backward)
    run(task, count=6, batch_size=4, shards=store, steps=7)
    assert len(store) == 4, "other settings have other keys"


def test_the_model_may_be_a_function_and_be_given_in_training_mode() -> None:
    weights = torch.randn(288, 4, generator=torch.Generator().manual_seed(0))
    found = attack(
        Target(lambda x: torch.tanh(x.flatten(1) @ weights), task=Embedding(4)),
        tasks.images(3),
        None,
        ThreatModel("linf", 0.1),
    )
    assert (found.loss > 0).all()
    model = nn.Sequential(nn.Conv2d(3, tasks.CLASSES, 1), nn.BatchNorm2d(tasks.CLASSES), nn.Dropout(0.5))
    target = Target(model, task=Segmentation(tasks.CLASSES))
    result = attack(target, tasks.images(3), tasks.masks(3), ThreatModel("linf", 0.05), CosPGD(variant="sea"), steps=3)
    assert model.training
    assert "train-mode" in {finding.code for finding in result.findings}
