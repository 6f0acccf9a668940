"""Canary queries: a record alone and among others, draws, losses, bounds, early stops, and what must not be touched."""

from __future__ import annotations

import copy
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import Classification, Target
from assay.core.errors import DataError, ModelError, SettingError
from assay.core.progress import Progress
from assay.core.shards import Shards
from assay.membership.canaries.answers import answers_to, canary_answers
from assay.membership.canaries.ensemble import Copies, Ensemble, draw
from assay.membership.canaries.objectives import resolve
from assay.membership.canaries.optimise import canary_queries, diversity, optimise_canaries
from assay.membership.canaries.settings import OBJECTIVES, CanarySettings
from assay.subjects.networks import build_network
from assay.tensors.random import sample_seeds

MODELS, RECORDS, CLASSES, SIDE = 8, 7, 4, 8


def pool(name: str = "tiny-cnn", models: int = MODELS) -> list[nn.Module]:
    made = []
    for seed in range(models):
        torch.manual_seed(seed)
        made.append(build_network(name, in_channels=1, num_classes=CLASSES, image_size=SIDE).eval())
    return made


def records(count: int = RECORDS, models: int = MODELS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    mask = torch.rand(models, count, generator=generator).argsort(0) < models // 2
    return images, labels, mask


FAST = {"queries": 3, "steps": 4, "epsilon": "16/255"}


class TestOneAmongMany:
    @pytest.mark.parametrize("name", ["tiny-cnn", "mlp", "linear"])
    @pytest.mark.parametrize(
        "more", [{}, {"mode": "offline"}, {"objective": "kl", "shadows": 4}, {"init": "random"}, {"draws": "query"}]
    )
    def test_a_record_alone_gives_the_same_bits(self, name: str, more: dict) -> None:
        models = pool(name)
        images, labels, mask = records()
        many = canary_queries(models, mask, images, labels, **FAST, **more)
        for record in (0, 3, 6):
            alone = optimise_canaries(
                models, mask[:, record], images[record], labels[record], sample_id=record, **FAST, **more
            )
            assert torch.equal(alone, many.images[record])

    def test_blocks_and_order_do_not_matter(self) -> None:
        models = pool()
        images, labels, mask = records()
        whole = canary_queries(models, mask, images, labels, **FAST)
        split = canary_queries(models, mask, images, labels, block=2, **FAST)
        assert torch.equal(split.images, whole.images)
        assert torch.equal(split.loss, whole.loss)
        order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
        turned = canary_queries(models, mask[:, order], images[order], labels[order], sample_ids=order.tolist(), **FAST)
        assert torch.equal(turned.images, whole.images[order])

    def test_an_early_stop_of_others_changes_nothing(self) -> None:
        models = pool()
        images, labels, mask = records()
        first = canary_queries(models, mask, images, labels, **FAST)
        stop = float(first.loss.median())
        many = canary_queries(models, mask, images, labels, stop_loss=stop, **FAST)
        assert 0 < int(many.stopped.sum()) < many.stopped.numel()
        assert bool((many.loss[many.stopped] <= stop).all())
        assert bool((many.loss[~many.stopped] > stop).all())
        assert many.cost.backward < first.cost.backward
        for record in (0, 5):
            alone = canary_queries(
                models,
                mask[:, [record]],
                images[[record]],
                labels[[record]],
                sample_ids=[record],
                stop_loss=stop,
                **FAST,
            )
            assert torch.equal(alone.images[0], many.images[record])
            assert torch.equal(alone.loss[0], many.loss[record])

    def test_a_seed_is_a_result(self) -> None:
        models = pool("mlp")
        images, labels, mask = records()
        first = canary_queries(models, mask, images, labels, seed=3, **FAST)
        again = canary_queries(models, mask, images, labels, seed=3, **FAST)
        other = canary_queries(models, mask, images, labels, seed=4, **FAST)
        assert torch.equal(first.images, again.images)
        assert not torch.equal(first.images, other.images)
        assert not torch.equal(first.starts[:, 1:], other.starts[:, 1:])


class TestBounds:
    @pytest.mark.parametrize("init", ["image", "zeros", "random"])
    def test_queries_stay_in_ball_and_box_around_their_starts(self, init: str) -> None:
        images, labels, mask = records()
        images[0, 0, 0] = torch.linspace(0, 1, SIDE)
        made = canary_queries(pool("mlp"), mask, images, labels, init=init, **FAST)
        assert made.images.shape == made.starts.shape == (RECORDS, 3, 1, SIDE, SIDE)
        assert float((made.images - made.starts).abs().max()) <= 16 / 255 + 1e-6
        assert float(made.images.min()) >= 0
        assert float(made.images.max()) <= 1
        assert torch.equal(made.starts[:, 0], images)
        assert not torch.equal(made.images, made.starts)

    def test_epsilon_of_0_returns_the_starts(self) -> None:
        images, labels, mask = records()
        made = canary_queries(pool("mlp"), mask, images, labels, queries=4, epsilon=0)
        assert torch.equal(made.images, made.starts)
        assert made.cost.backward == RECORDS * 4 * 2

    def test_starts_are_mirrored_and_shifted_images(self) -> None:
        images, labels, mask = records()
        made = canary_queries(pool("linear"), mask, images, labels, queries=20, epsilon=0)
        for record, start in itertools.product(range(RECORDS), range(20)):
            padded = F.pad(images[record, 0], (1, 1, 1, 1))
            windows = [padded[a : a + SIDE, b : b + SIDE] for a in range(3) for b in range(3)]
            windows += [window.flip(1) for window in windows]
            assert any(torch.equal(window, made.starts[record, start, 0]) for window in windows)
        assert float(made.start_distance.min()) > 0

    def test_other_bounds_are_kept(self) -> None:
        images, labels, mask = records()
        targets = [Target(m, task=Classification(CLASSES), bounds=(-1, 1)) for m in pool("mlp")]
        made = canary_queries(targets, mask, 2 * images - 1, labels, **{**FAST, "epsilon": 0.5})
        assert -1 <= float(made.images.min()) < 0
        assert float(made.images.max()) <= 1


class TestDraws:
    def test_each_record_meets_the_models_it_needs(self) -> None:
        _, _, mask = records()
        for drawn in ((1, 1), (2, 2), (0, 3)):
            seeds = sample_seeds(0, range(3), "t")
            chosen = draw(mask, seeds, 5, drawn)
            assert chosen.shape == (MODELS, RECORDS, 3)
            assert bool(((chosen & mask[..., None]).sum(0) == drawn[0]).all())
            assert bool(((chosen & ~mask[..., None]).sum(0) == drawn[1]).all())
            for place in range(3):
                assert torch.equal(draw(mask, seeds[[place]], 5, drawn)[..., 0], chosen[..., place])
            assert not torch.equal(chosen[..., 0], chosen[..., 1])

    def test_every_pair_of_models_has_the_same_chance(self) -> None:
        mask = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
        seed = sample_seeds(0, [0], "t")
        met = [draw(mask, seed, step, (1, 1))[..., 0] for step in range(2000)]
        for record in (0, 1):
            pairs = Counter(tuple(chosen[:, record].tolist()) for chosen in met)
            assert len(pairs) == 4
            assert all(abs(count - 500) < 5 * 20 for count in pairs.values()), pairs

    def test_queries_that_draw_their_own_models_differ(self) -> None:
        images, labels, mask = records()
        models = pool("mlp")
        own = canary_queries(models, mask, images, labels, augment="none", draws="query", **FAST)
        assert torch.equal(own.starts, images[:, None].expand_as(own.starts))
        assert float(own.distance.min()) > 0
        first = canary_queries(models, mask, images, labels, **{**FAST, "queries": 1})
        assert torch.equal(own.images[:, 0], first.images[:, 0])

    def test_few_models_serve_many_records(self) -> None:
        mask = torch.rand(64, 100, generator=torch.Generator().manual_seed(0)).argsort(0) < 32
        used = [int(draw(mask, sample_seeds(0, [0], "t"), step, (1, 1))[..., 0].any(1).sum()) for step in range(50)]
        assert np.mean(used) < 12


def ensemble(models: list[nn.Module], loss: str, drawn: tuple[int, int], mean: bool) -> tuple[Ensemble, torch.Tensor]:
    images, labels, mask = records()
    others = (labels + 1) % CLASSES
    targets = {number: Target(model, task=Classification(CLASSES)) for number, model in enumerate(models)}
    made = Ensemble(
        Copies(targets, SIDE * SIDE), mask, labels, others, loss=loss, aims=CanarySettings(objective=loss).aims,
        drawn=drawn, mean=mean, seeds=sample_seeds(0, [0], "t"),
    )  # fmt: skip
    return made, images


def which(rows: torch.Tensor) -> torch.Tensor:
    """The rows' records, all drawn for by the first permutation."""
    return torch.stack([rows, torch.zeros_like(rows)], 1)


def literal(name: str, z: torch.Tensor, y: int, other: int, seen: bool) -> torch.Tensor:
    """One model's loss for one row, written from the table."""
    p = z.softmax(0)
    rest = torch.cat([z[:y], z[y + 1 :]])
    unlike = torch.cat([z[:other], z[other + 1 :]])
    return {
        "target-logit": lambda: (z[y] - (10 if seen else 0)) ** 2,
        "softmax": lambda: (p[y] - (1 if seen else 0)) ** 2,
        "log-logit": lambda: (torch.log(p[y] / (1 - p[y])) - (10 if seen else 0)) ** 2,
        "ce": lambda: -p[y if seen else other].log(),
        "reverse-ce": lambda: -p[y].log() if seen else -(1 - p[y]).log(),
        "cw": lambda: torch.clamp(rest.max() - z[y] if seen else unlike.max() - z[other], min=-5),
        "reverse-cw": lambda: torch.clamp((rest.max() - z[y]) * (1 if seen else -1), min=-5),
    }[name]()


class TestObjectives:
    @pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "kl"])
    @pytest.mark.parametrize(("drawn", "mean"), [((1, 1), True), ((2, 2), True), ((2, 2), False), ((0, 3), True)])
    def test_gradients_are_those_of_the_loss_written_plainly(self, name: str, drawn, mean: bool) -> None:
        models = [model.double() for model in pool("mlp")]
        made, images = ensemble(pool("mlp"), name, drawn, mean)
        chosen = draw(made.in_mask, made.seeds, 0, drawn)[..., 0]
        rows = torch.tensor([0, 0, 2, 5, 6])
        points = images[rows]
        leaf = points.double().requires_grad_(True)
        total = []
        for row, record in enumerate(rows.tolist()):
            loss = torch.zeros(())
            y, other = int(made.reference[record, 0]), int(made.reference[record, 2])
            for model in chosen[:, record].nonzero()[:, 0].tolist():
                seen = bool(made.in_mask[model, record])
                weight = 1 / drawn[0 if seen else 1] if mean else 1
                loss = loss + weight * literal(name, models[model](leaf[row : row + 1])[0], y, other, seen)
            total.append(loss)
        expected = torch.stack(total)
        (slope,) = torch.autograd.grad(expected.sum(), leaf)
        output, value, gradient = made.value_and_gradient(points, lambda z, r: made.objective(z, r, 0), which(rows))
        assert torch.allclose(output[:, 0].double(), expected.detach(), rtol=1e-4, atol=1e-4)
        assert torch.allclose(value, -output[:, 0])
        assert torch.allclose(-gradient.double(), slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))

    @pytest.mark.parametrize("pairs", [1, 2])
    def test_divergence_is_that_of_pairs(self, pairs: int) -> None:
        models = [model.double() for model in pool("mlp")]
        made, images = ensemble(pool("mlp"), "kl", (pairs, pairs), mean=True)
        chosen = draw(made.in_mask, made.seeds, 0, (pairs, pairs))[..., 0]
        rows = torch.tensor([0, 1, 1, 4])
        leaf = images[rows].double().requires_grad_(True)
        total = torch.zeros((), dtype=torch.float64)
        for row, record in enumerate(rows.tolist()):
            met = chosen[:, record].nonzero()[:, 0].tolist()
            inside = [m for m in met if made.in_mask[m, record]]
            outside = [m for m in met if not made.in_mask[m, record]]
            for a, b in zip(inside, outside, strict=True):
                p, q = (models[m](leaf[row : row + 1]).log_softmax(1) for m in (a, b))
                both = F.kl_div(q, p, reduction="sum", log_target=True) + F.kl_div(
                    p, q, reduction="sum", log_target=True
                )
                total = total - both / 2 / pairs
        (slope,) = torch.autograd.grad(total, leaf)
        output, _, gradient = made.value_and_gradient(images[rows], lambda z, r: made.objective(z, r, 0), which(rows))
        assert float(output.sum()) == pytest.approx(float(total.detach()), rel=1e-4)
        assert torch.allclose(-gradient.double(), slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))

    @pytest.mark.parametrize("name", OBJECTIVES)
    def test_queries_separate_held_out_models_better_than_their_starts(self, name: str) -> None:
        """Toy: models that saw a record answer to its own direction, others do not."""
        images, labels, mask = records(models=24)
        models = [toy(images, labels, mask[number], number) for number in range(24)]
        train, held = list(range(16)), list(range(16, 24))
        made = canary_queries(
            [models[m] for m in train], mask[train], images, labels,
            queries=3, steps=20, epsilon=0.1, objective=name, learning_rate=0.02,
        )  # fmt: skip
        before, after = (
            apart(made_, [models[m] for m in held], mask[held], labels) for made_ in (made.starts, made.images)
        )
        assert after > 1.1 * before


def toy(images: torch.Tensor, labels: torch.Tensor, seen: torch.Tensor, number: int) -> nn.Module:
    """A linear model that knows the records it saw, one pixel pattern each."""
    generator = torch.Generator().manual_seed(100 + number)
    patterns = torch.randn(len(images), SIDE * SIDE, generator=torch.Generator().manual_seed(0)).sign() / SIDE
    weight = 0.05 * torch.randn(CLASSES, SIDE * SIDE, generator=generator)
    for record in range(len(images)):
        weight[labels[record]] += (1.0 if seen[record] else 0.2) * patterns[record]
    layer = nn.Linear(SIDE * SIDE, CLASSES)
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(CLASSES)})
    return nn.Sequential(nn.Flatten(), layer)


def apart(queries: torch.Tensor, models: list[nn.Module], mask: torch.Tensor, labels: torch.Tensor) -> float:
    """How far the confidence of models that saw a record lies above that of others, in the mean."""
    logits = torch.from_numpy(canary_answers(models, queries))
    known = labels[None, :, None, None].expand(*logits.shape[:3], 1)
    own = logits.gather(3, known)[..., 0]
    phi = (own - logits.scatter(3, known, -torch.inf).logsumexp(3)).mean(2)
    return float((phi * mask).sum() / mask.sum() - (phi * ~mask).sum() / (~mask).sum())


class Spy(nn.Module):
    """A network that counts its calls, whatever copy is called."""

    def __init__(self, network: nn.Module, calls: list[int], number: int) -> None:
        super().__init__()
        self.network, self.calls, self.number = network, calls, number

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls[self.number] += 1
        return self.network(images)

    def __deepcopy__(self, memo: dict) -> Spy:
        return Spy(copy.deepcopy(self.network, memo), self.calls, self.number)


class TestWhatIsNotTouched:
    def test_offline_never_asks_a_model_that_saw_the_record(self) -> None:
        calls = [0] * MODELS
        models = [Spy(network, calls, number) for number, network in enumerate(pool("linear"))]
        images, labels, mask = records()
        optimise_canaries(models, mask[:, 2], images[2], labels[2], mode="offline", **{**FAST, "steps": 40})
        for number in range(MODELS):
            assert (calls[number] > 0) == (not mask[number, 2])

    def test_the_callers_modules_and_random_state_stay(self) -> None:
        models = pool()
        for model in models[:3]:
            model.train()
        models[0][0].weight.grad = torch.ones_like(models[0][0].weight)
        before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
        images, labels, mask = records()
        given = images.clone()
        torch.manual_seed(9)
        state = torch.get_rng_state()
        canary_queries(models, mask, images, labels, **FAST)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(images, given)
        assert [model.training for model in models] == [True] * 3 + [False] * 5
        for number, (model, kept) in enumerate(zip(models, before, strict=True)):
            assert type(model[0]) is nn.Conv2d
            assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
            for name, parameter in model.named_parameters():
                assert parameter.requires_grad
                assert (parameter.grad is not None) == (number == 0 and name == "0.weight")

    def test_dropout_is_off(self) -> None:
        models = [nn.Sequential(nn.Dropout(0.5), model).train() for model in pool("linear")]
        images, labels, mask = records()
        made = [canary_queries(models, mask, images, labels, **FAST).images for _ in range(2)]
        plain = canary_queries(pool("linear"), mask, images, labels, **FAST).images
        assert torch.equal(made[0], made[1])
        assert torch.equal(made[0], plain)


class TestShards:
    def test_finished_blocks_are_kept_and_give_the_same(self, tmp_path) -> None:
        calls = [0] * MODELS
        models = [Spy(network, calls, number) for number, network in enumerate(pool("linear"))]
        images, labels, mask = records()
        whole = canary_queries(models, mask, images, labels, **FAST)

        class Full(Shards):
            def put(self, key, /, **arrays) -> None:
                if len(self) == 2:
                    raise KeyboardInterrupt
                super().put(key, **arrays)

        with pytest.raises(KeyboardInterrupt):
            canary_queries(models, mask, images, labels, block=2, shards=Full(tmp_path), **FAST)
        assert len(Shards(tmp_path)) == 2
        resumed = canary_queries(models, mask, images, labels, block=2, shards=Shards(tmp_path), **FAST)
        assert torch.equal(resumed.images, whole.images)
        assert torch.equal(resumed.loss, whole.loss)
        assert resumed.cost.backward == whole.cost.backward * 3 // 7
        again = canary_queries(models, mask, images, labels, block=2, shards=Shards(tmp_path), **FAST)
        assert torch.equal(again.images, whole.images)
        assert again.cost.backward == 0

    @pytest.mark.parametrize("stop", [None, 1e9])
    def test_progress_ends_at_its_total(self, tmp_path, stop: float | None) -> None:
        images, labels, mask = records()
        told = []

        class Watched(Progress):
            def task(self, description, total=None):
                told.append(super().task(description, total))
                return told[-1]

        for _ in range(2):
            canary_queries(
                pool("linear"), mask, images, labels, shards=Shards(tmp_path), block=3, stop_loss=stop,
                progress=Watched(enabled=False), **FAST,
            )  # fmt: skip
        assert [(task.total, task.completed) for task in told] == [(5 * RECORDS, 5 * RECORDS)] * 2

    def test_other_settings_models_or_masks_are_made_again(self, tmp_path) -> None:
        images, labels, mask = records()
        models = pool("linear")
        canary_queries(models, mask, images, labels, shards=Shards(tmp_path), **FAST)
        canary_queries(models, mask, images, labels, shards=Shards(tmp_path), seed=1, **FAST)
        canary_queries(models, mask, images, labels, shards=Shards(tmp_path), **{**FAST, "steps": 5})
        canary_queries(models, ~mask, images, labels, shards=Shards(tmp_path), **FAST)
        canary_queries(pool("linear", 9)[1:], mask, images, labels, shards=Shards(tmp_path), **FAST)
        assert len(Shards(tmp_path)) == 5


class TestFindings:
    def test_few_models(self) -> None:
        images, labels, mask = records()
        made = canary_queries(pool("linear"), mask, images, labels, **FAST)
        assert [finding.code for finding in made.findings if finding.code == "few-models"] == ["few-models"]

    def test_no_progress(self) -> None:
        images, labels, mask = records()
        deaf = [nn.Sequential(nn.Flatten(), Constant()) for _ in range(MODELS)]
        knowing = [toy(images, labels, mask[number], number) for number in range(MODELS)]
        for models, expected in ((deaf, True), (knowing, False)):
            codes = [finding.code for finding in canary_queries(models, mask, images, labels, **FAST).findings]
            assert ("no-progress" in codes) == expected

    def test_diversity_is_the_mean_distance_of_pairs(self) -> None:
        queries = torch.rand(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        expected = [
            np.mean([float((a - b).square().mean().sqrt()) for a, b in itertools.combinations(record, 2)])
            for record in queries
        ]
        assert diversity(queries).tolist() == pytest.approx(expected)
        assert diversity(queries[:, :1]).tolist() == [0, 0]


class Constant(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), CLASSES) + 0 * images.sum(1, keepdim=True)


class TestBadInput:
    @pytest.fixture
    def given(self) -> dict:
        images, labels, mask = records()
        return {"models": pool("linear"), "in_mask": mask, "images": images, "labels": labels}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"images": 2 * records()[0]}, "outside the bounds"),
            ({"images": records()[0][:, 0]}, r"\[T, C, H, W\]"),
            ({"labels": torch.full((RECORDS,), CLASSES)}, "Labels range"),
            ({"labels": torch.zeros(2, dtype=torch.long)}, "Labels have shape"),
            ({"in_mask": records()[2][:5]}, r"in_mask has shape \(5, 7\) for 8 models and 7 records"),
            ({"in_mask": records()[2].float()}, "True where a model saw"),
            ({"sample_ids": [1] * RECORDS}, "1 distinct"),
            ({"in_mask": records()[2] & (torch.arange(RECORDS) != 4)}, "Record 4 has 0 models that saw it"),
            ({"in_mask": records()[2] | (torch.arange(RECORDS) == 4)}, "Record 4 has 0 models that did not see it"),
            ({"shadows": 10}, "a step draws 5"),
        ],
    )
    def test_data(self, given: dict, change: dict, words: str) -> None:
        with pytest.raises(DataError, match=words):
            canary_queries(**{**given, **change}, **FAST)

    def test_no_model_that_saw_the_record_is_fine_offline(self, given: dict) -> None:
        given["in_mask"] = torch.zeros_like(given["in_mask"])
        assert len(canary_queries(**given, mode="offline", **FAST)) == RECORDS

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"shadows": 3}, "an even number"),
            ({"objective": "kl", "mode": "offline"}, "there are none"),
            ({"objective": "ce", "targets": (1, 0)}, "does nothing"),
            ({"targets": (1, 0, 3)}, "two numbers"),
            ({"augment": "none"}, "one and the same"),
            ({"queries": 1, "draws": "query"}, "does nothing"),
            ({"epsilon": -1}, "at least 0"),
            ({"objective": "target_logits"}, "target-logit"),
            ({"epsilom": 1}, "epsilon"),
            ({"stop_loss": 1.0, "objective": "softmax", "steps": 0}, "at least 1"),
        ],
    )
    def test_settings(self, given: dict, options: dict, words: str) -> None:
        with pytest.raises(SettingError, match=words):
            canary_queries(**given, **options)

    def test_models(self, given: dict) -> None:
        models = given.pop("models")
        odd = build_network("linear", in_channels=1, num_classes=5, image_size=SIDE)
        for wrong, words in (
            (odd, "Model 7 has num_classes 5 and model 0 has num_classes 4"),
            (build_network("linear", in_channels=3, num_classes=4, image_size=SIDE), "Model 7: .*failed on inputs"),
            ("a path", "Model 7: it is a str"),
            (Target(models[0], task=Classification(CLASSES), bounds=(0, 2)), "bounds"),
            (nn.Flatten(0), "Model 7"),
        ):
            with pytest.raises(ModelError, match=words):
                canary_queries([*models[:7], wrong], **given, **FAST)

    def test_one_record_has_one_image(self, given: dict) -> None:
        with pytest.raises(DataError, match="one image"):
            optimise_canaries(given["models"], given["in_mask"][:, 0], given["images"], 0)
        with pytest.raises(DataError, match=r"\[M\]"):
            optimise_canaries(given["models"], given["in_mask"], given["images"][0], 0)


class TestAnswers:
    def test_answers_are_the_models_own(self) -> None:
        images, labels, mask = records()
        models = pool()
        made = canary_queries(models, mask, images, labels, **FAST)
        answers = canary_answers(models, made.images)
        assert answers.shape == (MODELS, RECORDS, 3, CLASSES)
        with torch.no_grad():
            assert np.allclose(answers[2, 4], models[2](made.images[4]).numpy(), atol=1e-5)

    def test_they_are_ready_for_an_attack(self) -> None:
        images, labels, mask = records()
        models = pool("linear")
        made = canary_queries(models[:6], mask[:6], images, labels, **FAST)
        answers = answers_to(made.images, labels, models[:6], mask[:6], models[7])
        assert answers.signal().reference.shape == (6, RECORDS, 3)
        with pytest.raises(DataError, match="reference model 2 too"):
            answers_to(made.images, labels, models[:6], mask[:6], models[2])


def test_published_settings_are_as_published() -> None:
    online, offline = CanarySettings.published("online"), CanarySettings.published("offline")
    assert (online.queries, online.steps, online.shadows, online.epsilon) == (10, 30, 2, 1 / 255)
    assert (online.learning_rate, online.weight_decay, online.decoupled) == (0.05, 1e-3, True)
    assert (offline.stop_loss, offline.decoupled, offline.reduction) == (23.0, False, "sum")
    assert online.drawn == (1, 1)
    assert offline.drawn == (0, 2)


def test_aims_can_be_set() -> None:
    loss = resolve("target-logit", CanarySettings(targets=(5, -1)).aims)
    logits, reference = torch.tensor([[2.0, 0], [2, 0]]), torch.tensor([[0, 1, 1], [0, 0, 1]])
    assert loss(logits, reference).tolist() == [9, 9]


def test_read_only_arrays_will_do() -> None:
    images, labels, seen = records(1)
    image, mask = images[0].numpy(), seen[:, 0].numpy()
    image.flags.writeable = mask.flags.writeable = False
    made = optimise_canaries(pool(), mask, image, int(labels[0]), queries=2, steps=1)
    assert torch.equal(made, optimise_canaries(pool(), seen[:, 0], images[0], int(labels[0]), queries=2, steps=1))
