"""certify: right on a model whose radii are known, the same however the work is cut, resumable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from assay import Classification, Target
from assay.certify import certified_radius, certify
from assay.certify.stopping import looks
from assay.core.errors import DataError, SettingError
from assay.core.shards import Shards

from .models import at_distance, convolutional, linear, pictures

SIGMA = 0.5
DISTANCES = torch.tensor([0.02, 0.1, 0.2, 0.31, 0.42, 0.55, 0.7, 0.8, 1.0, 1.3, 3.0, -0.4, -1.0])
ONES = torch.ones(len(DISTANCES), dtype=torch.int64)


def test_fixed_certificates_of_a_linear_model() -> None:
    """p_A = Φ(distance / σ), so the radius is the distance, from below, up to what n votes can show."""
    n = 20_000
    found = certify(linear(), at_distance(DISTANCES), ONES, sigma=SIGMA, n=n)
    truth = DISTANCES.abs().numpy()
    assert (found.samples_used == n + 100).all()
    assert (found.radius <= truth).all()
    expected = certified_radius(np.round(n * ndtr(truth / SIGMA)), n, 0.001, SIGMA).radius
    assert np.abs(found.radius - expected).max() < 0.06
    clear = found.radius > 0
    assert clear.sum() >= 11
    assert (found.predicted[clear] == (DISTANCES[clear] > 0).numpy()).all()
    assert (found.abstained == (found.predicted == -1)).all()
    assert (found.radius[found.abstained] == 0).all()


@pytest.mark.parametrize("radius", [0.0, 0.25, 0.5, 1.0])
def test_one_radius_needs_few_votes_for_the_same_set(radius: float) -> None:
    images, n = at_distance(DISTANCES), 20_000
    fixed = certify(linear(), images, ONES, sigma=SIGMA, n=n)
    found = certify(linear(), images, ONES, sigma=SIGMA, n=n, mode="radius", radius=radius)
    assert found.certified(radius).tolist() == fixed.certified(radius).tolist()
    assert (found.radius <= DISTANCES.abs().numpy()).all()
    assert found.samples_used.sum() < 0.25 * fixed.samples_used.sum()
    assert found.samples_used.min() < 400


def test_a_grid_decides_every_radius_from_one_stream() -> None:
    images, radii = at_distance(DISTANCES), (0.25, 0.5, 0.9)
    found = certify(linear(), images, ONES, sigma=SIGMA, n=20_000, mode="grid", radii=radii)
    for radius in radii:
        one = certify(linear(), images, ONES, sigma=SIGMA, n=20_000, mode="radius", radius=radius)
        assert found.certified(radius).tolist() == one.certified(radius).tolist()
        assert (found.samples_used >= one.samples_used).all()
    assert (found.radius <= DISTANCES.abs().numpy()).all()


def test_an_estimate_comes_within_its_tolerance() -> None:
    found = certify(linear(), at_distance(DISTANCES), ONES, sigma=SIGMA, n=20_000, mode="estimate", tolerance=0.2)
    truth = DISTANCES.abs().numpy()
    early = found.samples_used < 20_100
    wide = early & (truth > SIGMA / 4) & (truth < 1.5)
    assert wide.sum() >= 5
    assert (found.radius <= truth).all()
    assert (found.radius[wide] >= 0.8 * truth[wide]).all()


def test_wrong_certificates_are_as_rare_as_promised() -> None:
    """Radius just beyond the truth, alpha of 10 %: certified wrongly in at most 10 % of the samples, up to chance."""
    from scipy.stats import binom

    alpha, truth = 0.1, 0.4
    for count, options in (
        (200, {"mode": "fixed"}),
        (200, {"mode": "radius", "radius": truth + 1e-3}),
        (40, {"mode": "estimate"}),
    ):
        images, labels = at_distance(torch.full((count,), truth)), torch.ones(count, dtype=torch.int64)
        found = certify(linear(), images, labels, sigma=SIGMA, n0=20, n=300, alpha=alpha, **options)
        assert (found.radius > truth).sum() <= binom.ppf(0.9999, count, alpha)
        assert (found.radius > 0.5 * truth).mean() > 0.5


@pytest.mark.parametrize("mode", [{"mode": "fixed"}, {"mode": "grid", "radii": (0.0, 0.5)}, {"mode": "estimate"}])
def test_results_do_not_depend_on_batch_order_or_company(mode: dict[str, object]) -> None:
    target, images, labels = convolutional(), pictures(5), torch.arange(5)
    common = {"sigma": 2.0, "n": 700, "n0": 40, **mode}
    whole = certify(target, images, labels, **common)
    order = [3, 0, 4, 1, 2]
    other = certify(target, images[order], labels[order], batch_size=33, sample_ids=order, **common)
    alone = certify(target, images[2:3], labels[2:3], batch_size=1000, sample_ids=[2], **common)
    for name in ("candidates", "counts", "samples_used", "radius", "predicted"):
        assert getattr(other, name).tolist() == getattr(whole, name)[order].tolist()
        assert getattr(alone, name).tolist() == getattr(whole, name)[2:3].tolist()
    assert certify(target, images, labels, **{**common, "seed": 1}).counts.tolist() != whole.counts.tolist()


class Stopping(nn.Module):
    """The linear model, which is interrupted at its k-th call."""

    left = 10**9

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear().model

    def forward(self, images: Tensor) -> Tensor:
        Stopping.left -= 1
        if Stopping.left < 0:
            raise KeyboardInterrupt
        return self.inner(images)


def test_a_stopped_certification_goes_on(tmp_path: Path) -> None:
    target = Target(Stopping(), task=Classification(2), bounds=(-10, 10))
    images = at_distance(DISTANCES)

    def work(shards: Shards | None) -> tuple[list[float], list[int], int]:
        before = Stopping.left
        found = certify(target, images, ONES, sigma=SIGMA, n=2000, mode="radius", radius=0.25, shards=shards)
        return found.radius.tolist(), found.samples_used.tolist(), before - Stopping.left

    Stopping.left = 10**9
    undisturbed = work(None)
    Stopping.left = undisturbed[2] // 2
    with pytest.raises(KeyboardInterrupt):
        work(Shards(tmp_path))
    Stopping.left = 10**9
    resumed = work(Shards(tmp_path))
    assert resumed[:2] == undisturbed[:2]
    assert 0 < resumed[2] < undisturbed[2]
    assert work(Shards(tmp_path))[2] == 0
    next(tmp_path.glob("*.npz")).write_bytes(b"damaged")
    again = work(Shards(tmp_path))
    assert again[:2] == undisturbed[:2]
    assert again[2] > 0


def test_kept_results_are_never_those_of_other_work(tmp_path: Path) -> None:
    images, shards = at_distance(DISTANCES), Shards(tmp_path)
    first = certify(linear(), images, ONES, sigma=SIGMA, n=500, shards=shards)
    for target, shown, changes in (
        (linear(0.5), images, {}),
        (linear(), -images, {}),
        (linear(), images, {"seed": 1}),
        (linear(), images, {"sigma": 0.4}),
        (linear(), images, {"n": 600}),
    ):
        options = {"sigma": SIGMA, "n": 500, **changes}
        fresh = certify(target, shown, ONES, **options)
        found = certify(target, shown, ONES, shards=Shards(tmp_path), **options)
        assert found.counts.tolist() == fresh.counts.tolist()
        assert found.counts.tolist() != first.counts.tolist()


def test_certified_accuracy_counts_right_answers_only() -> None:
    labels = torch.tensor([1] * 6 + [0] * 7)
    found = certify(linear(), at_distance(DISTANCES), labels, sigma=SIGMA, n=5000)
    wrong = (labels != (DISTANCES > 0)).numpy() & ~found.abstained
    assert wrong.sum() >= 4
    rate = found.certified_accuracy(0.25)
    held = (found.radius >= 0.25) & (found.predicted == labels.numpy())
    assert rate.value == held.mean()
    assert rate.lo < rate.value < rate.hi
    assert found.average_certified_radius.value == pytest.approx((found.radius * found.correct).mean())
    assert found.average_certified_radius.value < found.radius.mean()


def test_lower_precision_is_said_plainly() -> None:
    found = certify(convolutional(), pictures(2), torch.zeros(2, dtype=torch.int64), sigma=1.0, n=200, dtype="bfloat16")
    assert [finding.code for finding in found.findings] == ["lower-precision"]
    assert "bfloat16" in found.findings[0].message
    plain = certify(convolutional(), pictures(2), torch.zeros(2, dtype=torch.int64), sigma=1.0, n=200)
    assert plain.findings == []


def test_looks_grow_and_end_at_the_limit() -> None:
    for n in (1, 31, 32, 33, 1000, 100_000):
        found = looks(n)
        assert found[-1] == n
        assert found == sorted(set(found))
        assert all(look % 32 == 0 for look in found[:-1])
    assert len(looks(100_000)) < 40


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sigma": 0}, "sigma is 0.0; allowed: above 0"),
        ({"sigma": -0.5}, "allowed: above 0"),
        ({"alpha": 0}, "alpha is 0.0"),
        ({"alpha": 1}, "alpha is 1.0"),
        ({"n": 50}, "must be at least n0"),
        ({"n0": 0}, "n0 is 0"),
        ({"mode": "fix"}, "Did you mean 'fixed'"),
        ({"mode": "radius"}, "no radius is given"),
        ({"mode": "grid"}, "no radius is given"),
        ({"mode": "radius", "radii": (0.1, 0.2)}, "mode='grid' for several"),
        ({"radius": 0.5}, "mode='radius'"),
        ({"radii": (0.5,)}, "mode='grid' or leave them out"),
        ({"mode": "radius", "radius": 0.5, "radii": (0.5,)}, "Both radius and radii"),
        ({"tolerance": 0.1}, "mode='estimate'"),
        ({"mode": "radius", "radius": 2.0}, "raise n to"),
        ({"mode": "grid", "radii": (0.1, 9.0)}, "cannot be proved"),
        ({"mode": "radius", "radius": -1.0}, "at least 0"),
        ({"dtype": "float16"}, "one of float32, bfloat16"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"sample_ids": [1]}, "one name each"),
        ({"sample_ids": [1] * len(DISTANCES)}, "one name each"),
    ],
)
def test_mistakes(changes: dict[str, object], sentence: str) -> None:
    options = {"sigma": SIGMA, "n": 1000, **changes}
    with pytest.raises(SettingError, match=sentence):
        certify(linear(), at_distance(DISTANCES), ONES, **options)  # type: ignore[arg-type]


def test_images_outside_the_bounds_are_refused() -> None:
    with pytest.raises(DataError, match="outside the bounds"):
        certify(linear(), at_distance(DISTANCES) * 100, ONES, sigma=SIGMA, n=1000)
