"""attack() with input that cannot be used, and the findings it makes about what can."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.core.errors import AssayError, DataError, ModelError, SettingError
from assay.evasion import attack
from assay.evasion.judge import TaskJudge
from assay.evasion.pgd import PGD
from assay.evasion.searching import Searching
from assay.search.threat import ThreatModel
from assay.subjects.dense_tasks import Depth, Embedding, Segmentation
from assay.subjects.target import Target
from assay.tensors import losses

from . import tasks

THREAT = ThreatModel("linf", 0.05)


def with_ignored(mask: torch.Tensor, rows: list[int]) -> torch.Tensor:
    mask = mask.clone()
    mask[rows] = tasks.IGNORED
    return mask


def refusals():
    images, masks, depths = tasks.images(3), tasks.masks(3), tasks.depths(3)
    segmenter, depther, encoder = tasks.segmenter(), tasks.depther(), tasks.encoder()
    classifier, labels = tasks.classifier(), tasks.labels(3)
    unknown, empty = masks.clone(), torch.zeros_like(depths)
    unknown[0, 0, 0] = 17
    short = tasks.images(3)[:, :, :, :6]
    return [
        ("unknown name", (segmenter, images, masks, THREAT, "seg-pdg"), {}, SettingError, "Did you mean 'seg-pgd'"),
        ("nonsense", (segmenter, images, masks, THREAT, "zzz"), {}, SettingError, "There are: ce, cos-pgd"),
        ("other task", (segmenter, images, masks, THREAT, "silog"), {}, SettingError, "is for depth"),
        ("classification of an encoder", (encoder, images, None, THREAT, "ce"), {}, SettingError, "embedding-l2"),
        ("settings of an attack", (segmenter, images, masks, THREAT, PGD()), {}, SettingError, "assay ls objective"),
        (
            "both without an encoder",
            (tasks.embedding_target(), images, None, THREAT, "embedding-both-cosine"),
            {},
            SettingError,
            "is for an Encoder",
        ),
        (
            "patches without a map",
            (tasks.embedding_target(), images, None, THREAT, "embedding-patch-l2"),
            {},
            ModelError,
            "patch map",
        ),
        ("a module", (nn.Flatten(), images, None, THREAT), {}, ModelError, "a Target or an Encoder is needed"),
        ("no masks", (segmenter, images, None, THREAT), {}, DataError, "segmentation needs masks"),
        ("no depths", (depther, images, None, THREAT), {}, DataError, "depth needs depth maps"),
        ("unknown class ids", (segmenter, images, unknown, THREAT), {}, DataError, "17"),
        (
            "all ignored",
            (segmenter, images, with_ignored(masks, [0, 1, 2]), THREAT),
            {},
            DataError,
            "Not one of 3 images",
        ),
        ("no depth", (depther, images, empty, THREAT), {}, DataError, "Not one of 3 images"),
        ("masks of another size", (segmenter, short, masks, THREAT), {}, DataError, "nearest"),
        ("mixed sizes", (segmenter, [images[0], short[0]], masks[:2], THREAT), {}, DataError, "2 sizes"),
        ("labels", (classifier, images, labels + 9, THREAT), {}, DataError, "Labels range"),
        ("normalised images", (segmenter, images * 4, masks, THREAT), {}, DataError, "outside the bounds"),
        (
            "references of other shape",
            (encoder, images, torch.zeros(3, 5), THREAT),
            {},
            DataError,
            r"representations \(6,\)",
        ),
        ("method", (encoder, images, None, THREAT), {"method": "agpd"}, SettingError, "Did you mean 'apgd'"),
        ("step size", (encoder, images, None, THREAT), {"method": "apgd", "step_size": 0.1}, SettingError, "its own"),
        ("no step", (encoder, images, None, THREAT), {"step_size": 0}, SettingError, "above 0"),
        ("steps", (encoder, images, None, THREAT), {"steps": 0}, SettingError, "from 1 up"),
        ("restarts", (encoder, images, None, THREAT), {"restarts": 0}, SettingError, "restarts"),
        ("names", (encoder, images, None, THREAT), {"sample_ids": [1, 1, 2]}, SettingError, "distinct"),
        (
            "a size the patches do not divide",
            (encoder, tasks.images(3)[:, :, :7], None, THREAT),
            {},
            AssayError,
            "patch",
        ),
    ]


REFUSALS = refusals()


@pytest.mark.parametrize(("what", "given", "options", "error", "says"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_what_cannot_be_used_is_refused_with_a_reason(what: str, given, options, error, says: str) -> None:
    with pytest.raises(error, match=says):
        attack(*given, **{"steps": 2, **options})


def codes(found) -> dict[str, str]:
    return {finding.code: finding.severity for finding in found.findings}


def test_images_without_a_pixel_that_counts_are_left_out_and_counted() -> None:
    images, truth = tasks.images(5), with_ignored(tasks.masks(5), [1, 3])
    found = attack(tasks.segmenter(), images, truth, THREAT, steps=4)
    assert found.excluded.tolist() == [False, True, False, True, False]
    assert torch.equal(found.adversarial[found.excluded], images[found.excluded])
    assert found.loss[found.excluded].tolist() == [0, 0]
    assert not found.success[found.excluded].any()
    assert [name is None for name in found.strongest_by] == found.excluded.tolist()
    assert next(finding for finding in found.findings if finding.code == "no-valid-pixels").value == 0.4
    kept = attack(tasks.segmenter(), images[[0, 2, 4]], truth[[0, 2, 4]], THREAT, steps=4, sample_ids=[0, 2, 4])
    assert torch.equal(kept.adversarial, found.adversarial[[0, 2, 4]])
    depths = tasks.depths(4)
    depths[2] = 99.0  # beyond max_depth
    found = attack(tasks.depther(), tasks.images(4), depths, THREAT, steps=3)
    assert found.excluded.tolist() == [False, False, True, False]
    assert torch.isfinite(found.loss).all()


@pytest.mark.parametrize("pixel", [(0, 0), (7, 11)])
def test_a_single_pixel_that_counts_is_enough(pixel: tuple[int, int]) -> None:
    truth, depths = with_ignored(tasks.masks(3), [0, 1, 2]), torch.zeros_like(tasks.depths(3))
    truth[:, pixel[0], pixel[1]] = 1
    depths[:, pixel[0], pixel[1]] = 1.0
    for name in ("seg-pgd", "js", "mask-norm-corrlog"):
        assert torch.isfinite(attack(tasks.segmenter(), tasks.images(3), truth, THREAT, name, steps=3).loss).all()
    for name in ("silog", "silog-gradient", "depth-gradient"):
        assert torch.isfinite(attack(tasks.depther(), tasks.images(3), depths, THREAT, name, steps=3).loss).all()


def test_probabilities_in_the_place_of_logits_are_a_serious_finding() -> None:
    base = tasks.segmenter()
    model = nn.Sequential(*base.model, nn.Softmax(dim=1)).eval()
    found = attack(Target(model, task=Segmentation(tasks.CLASSES)), tasks.images(3), tasks.masks(3), THREAT, steps=2)
    assert codes(found)["probabilities"] == "serious"
    assert "probabilities" not in codes(attack(base, tasks.images(3), tasks.masks(3), THREAT, steps=2))


def test_vanishing_gradients_and_searches_without_effect_are_found() -> None:
    target = Target(lambda x: (x.flatten(1)[:, :6] * 2).round(), task=Embedding(6))
    found = attack(target, torch.full((4, 3, 2, 2), 0.4), None, ThreatModel("linf", 0.01), steps=3)
    assert codes(found) == {"zero-gradients": "serious", "unmoved": "warning"}
    assert found.strongest_by == ["clean"] * 4


def test_gradients_that_are_not_numbers_are_found() -> None:
    def depth(x: torch.Tensor) -> torch.Tensor:
        return (x.mean(1) - x.mean(1)).sqrt() + x.mean(1) + 1

    found = attack(Target(depth, task=Depth()), tasks.images(3), torch.ones(3, 8, 12), THREAT, steps=2)
    assert codes(found)["broken-gradients"] == "warning"


def test_answers_that_are_not_numbers_are_refused() -> None:
    target = Target(lambda x: x.flatten(1)[:, :6] / 0, task=Embedding(6))
    with pytest.raises(ModelError, match="NaN or infinity"):
        attack(target, tasks.images(2), None, THREAT, steps=2)


def test_a_model_that_does_not_repeat_itself_is_a_serious_finding() -> None:
    target = Target(lambda x: x.flatten(1)[:, :6] * (1 + 0.1 * torch.rand(1)), task=Embedding(6))
    assert codes(attack(target, tasks.images(3), None, THREAT, steps=2))["randomised"] == "serious"


def test_a_copy_that_says_something_else_is_not_used() -> None:
    """The model calls the members of a part in its own way, so that a folded part is not what it computes."""

    class OwnWay(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2))
            self.body[1].running_var.fill_(4.0)
            self.eval()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape[1] == 3
            return self.body[1](torch.tanh(self.body[0](images))).flatten(1)[:, :6]

    model = OwnWay()
    found = attack(Target(model, task=Embedding(6)), tasks.images(3), None, THREAT, steps=6)
    with torch.no_grad():
        clean, attacked = model(tasks.images(3)), model(found.adversarial)
    torch.testing.assert_close((attacked - clean).square().mean(1), found.loss)
    searching = Searching(TaskJudge(Target(model, task=Embedding(6)), losses.embedding_l2), None, THREAT)
    assert isinstance(searching.copy.module.body[1], nn.Identity)
    searching.check(tasks.images(3), clean)
    assert not isinstance(searching.copy.module.body[1], nn.Identity)
    assert searching.randomised is False
