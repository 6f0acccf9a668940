"""The watermark: jobs that need others, texts that are held out, and numbers that point the right way."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from assay.core.errors import DataError, SettingError
from assay.core.settings import build
from reproductions.cost import table_of_costs
from reproductions.job import JOB, RESULT, needed
from reproductions.runner import ready, work
from reproductions.spec import Spec, load_spec
from reproductions.watermark import marked, models, numbers, texts


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec("watermark")


def test_a_job_names_the_jobs_it_needs_and_waits_for_them(spec: Spec, tmp_path) -> None:
    jobs = {job.name: job for job in spec.jobs("cpu")}
    job, generator = jobs["multinomial/unmarked/seed-1"], jobs["models/generator/seed-0"]
    assert job.plan["needs"] == {
        "generator": generator.folder,
        "oracle": jobs["models/oracle/seed-0"].folder,
    }
    assert needed(job, tmp_path / job.folder, "generator") == tmp_path / generator.folder
    said: list[str] = []
    for workers in (0, 1):
        assert work(spec, [job], tmp_path, workers=workers, say=said.append) == [job]
    assert sum("cannot begin: it needs models/generator/seed-0" in line for line in said) == 2
    assert json.loads((tmp_path / job.folder / JOB).read_text())["plan"] == job.plan
    for answer, folder in ((False, generator.folder), (True, jobs["models/oracle/seed-0"].folder)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / RESULT).write_text("{}")
        assert ready(tmp_path, job) == answer
    assert ready(tmp_path, generator)


@pytest.mark.parametrize("text", ["generator", "models/generatr/seed-0", "models/generator"])
def test_a_needed_job_that_is_none_is_told(spec: Spec, text: str) -> None:
    content = json.loads(json.dumps(spec.content))
    content["experiments"]["attacks"]["needs"] = {"generator": text}
    with pytest.raises(SettingError, match=r"seed-N|Did you mean 'generator'"):
        Spec(spec.paper, spec.folder, content).jobs("cpu")


def test_every_plan_can_be_built(spec: Spec) -> None:
    from assay.training import TrainSettings
    from assay.training.language.causal_lm import CausalLM
    from assay.watermark import Watermark
    from assay.watermark.edits.base import named_edits
    from assay.watermark.generation import Decoding

    kinds = set()
    for tier in ("tiny", "cpu", "published"):
        for job in spec.jobs(tier):
            plan = job.plan
            kinds.add(plan["work"])
            if plan["work"] == "model" and "model" not in plan:
                build(CausalLM, plan["recipe"])
                build(TrainSettings, plan["training"])
            if "decoding" in plan:
                build(Decoding, {**plan["decoding"], "new_tokens": plan["new_tokens"]})
            if plan.get("mark"):
                Watermark(plan["mark"].get("scheme", "simple_1"), vocab_size=50272, gamma=plan["mark"]["gamma"])
            for scheme, settings in plan.get("schemes", {}).items():
                Watermark(scheme, vocab_size=50272, gamma=plan["gamma"], **(settings or {}))
            for edit in plan.get("edits", ()):
                assert named_edits(edit)
            if plan["work"] == "texts" and tier == "cpu":
                recipe = spec.experiment("cpu", "models")["plan"]["recipe"]
                assert plan["prompt"] + plan["new_tokens"] <= recipe["context"]
    assert kinds == set(spec.code().WORK)


def test_what_it_will_cost_is_told_without_running(spec: Spec, tmp_path) -> None:
    told = table_of_costs(spec.jobs("tiny"), tmp_path, workers=1, code=spec.code())
    assert "| beam | unmarked | 24 |" in told
    assert not list(tmp_path.iterdir())


def test_documents_are_in_one_part_only_and_come_once() -> None:
    every = texts.documents("python-docs")
    train, held_out = (texts.documents("python-docs", part) for part in ("train", "held-out"))
    assert sorted(every) == sorted([*train, *held_out])
    assert len(set(every)) == len(every)
    assert 0 < len(held_out) < len(train)
    assert texts.held_out("A  cat, sat.") == texts.held_out("a cat sat")
    with pytest.raises(DataError, match="Did you mean 'reviews'"):
        texts.documents("review")


@pytest.mark.parametrize("source", ["ag-news", "reviews", "sst2", "shakespeare"])
def test_files_are_read_as_they_are_meant(shared_data, source: str) -> None:
    found = texts.documents(source)
    words = " ".join(found).split()
    assert len(set(found)) == len(found) > 300
    assert len(words) > 150_000
    for wrong in ("#39;", "&quot;", "&amp;", "\t"):
        assert sum(wrong in word for word in words) < 1e-4 * len(words)


def test_pieces_leave_out_no_token_but_the_last_ones() -> None:
    assert models.pieces([[1, 2, 3], [4], [5, 6, 7]], 3) == [[1, 2, 3], [4, 5, 6]]


class Letters:
    """A model of letters: ids are code points; ``first`` comes before every prompt."""

    def __init__(self, *first: int) -> None:
        self.first = first

    def encode(self, text: str, prompt: bool = False) -> list[int]:
        return [*(self.first if prompt else ()), *(ord(letter) for letter in text)]


def test_seeds_have_prompts_of_their_own(monkeypatch) -> None:
    letters = [chr(300 + number) for number in range(90)]
    monkeypatch.setattr(models, "documents", lambda source, part: ["".join(letters)])
    plan = {"texts": ["x"], "prompt": 2, "new_tokens": 3, "count": 6}
    both = [models.prompts(Letters(), plan, seed) for seed in (0, 1, 2)]
    begun = [tuple(prompt) for prompts, _ in both for prompt in prompts]
    assert len(set(begun)) == 18
    assert {len(prompt) for prompt in begun} == {2}
    assert all(
        after[0] == prompt[-1] + 1 for prompts, human in both for prompt, after in zip(prompts, human, strict=True)
    )
    whole = models.prompts(Letters(), {**plan, "count": 1, "whole_documents": True}, 0)
    assert whole == ([[ord(letter) for letter in letters[85:87]]], [[ord(letter) for letter in letters[87:]]])
    opened, _ = models.prompts(Letters(7), plan, 0)
    assert opened == [[7, *prompt] for prompt in both[0][0]]
    with pytest.raises(DataError, match="19 prompts"):
        models.prompts(Letters(), {**plan, "count": 19}, 0)


def test_keys_differ_and_only_the_first_is_the_public_one() -> None:
    keys = [models.key(0), models.key(1), models.key(2), *(models.key(0, number) for number in range(5))]
    assert keys[0] == models.PUBLIC_KEY
    assert len(set(keys)) == len(keys)
    assert all(0 < key < 2**32 for key in keys)


class Peaked:
    """Two likely tokens of five, whatever came before."""

    context, stops = None, (0,)

    def next_probabilities(self, ids: list[int]):
        import torch

        return torch.tensor([[0.2, 0.4, 0.2, 0.1, 0.1]]).repeat(len(ids) - 1, 1)


def test_theory_reads_the_distribution_at_the_temperature_it_was_drawn_from() -> None:
    from assay.watermark.theory import spike_entropy

    p = np.array([0.0, 0.4, 0.2, 0.1, 0.1]) ** 2
    p /= p.sum()
    means, every = marked.drawn_from(Peaked(), [[1, 2]], [[3, 1, 1]], 0.5, 0.25, 4.0)
    assert means["spike"] == [pytest.approx(float(spike_entropy(p, gamma=0.25, delta=4.0)), abs=1e-4)]
    assert means["entropy"] == [pytest.approx(-(p[1:] * np.log(p[1:])).sum(), abs=1e-4)]
    assert means["surprise"] == [pytest.approx(-(2 * math.log(p[1]) + math.log(p[3])) / 3, abs=1e-4)]
    assert [len(values) for values in every] == [3]


def row(method: str, seed: int, green: list[int], surprise: float, mark: bool = True) -> dict:
    """A result of the experiment ``multinomial`` with texts of 100 n-grams."""
    n = len(green)
    spike = [0.6 + 0.001 * value for value in green]
    made = {
        "experiment": "multinomial",
        "method": method,
        "seed": seed,
        "texts": {"oracle": [surprise + 0.01 * value for value in range(n)], "entropy": [2.0] * n},
    }
    if mark:
        again = {"green_repeated": [2 * number for number in green], "scored_repeated": [200] * n}
        made["texts"] |= again | {"green": green, "scored": [100] * n, "spike": spike, "surprise": [2.1] * n}
        made["lengths"] = {
            length: {"z": [z, 1.0], "found": [n // 2, 0], "scored": {length: n}}
            for length, z in (("25", 3.0), ("100", 6.0))
        }
        made["by_spike"] = [[1, 0.5, 300, 90], [4, 0.9, 500, 450]]
    else:
        cell = {
            "count": 40,
            "z4": 0,
            "z5": 0,
            "z4_repeated": 4,
            "z5_repeated": 0,
            "small": [2, 0, 0, 0],
            "small_repeated": [9, 4, 1, 0],
            "repeated": 0.2,
        }
        made["null"] = {"0.25": cell, "0.5": cell}
        made["human"] = {"null": made["null"], "oracle": [3.0] * n, "surprise": [3.0] * n}
    return made


@pytest.fixture(scope="module")
def known(spec: Spec) -> dict:
    rows = []
    for seed in (0, 1):
        rows.append(row("unmarked", seed, [25, 24, 26, 25], 2.0, mark=False))
        rows.append(row("gamma-25-delta-1", seed, [35, 40, 44, 50], 2.2))
        rows.append(row("gamma-25-delta-2", seed, [60, 66, 70, 72], 2.5))
    return numbers.quantities(spec, "cpu", rows)


def test_numbers_point_the_way_their_names_say(known: dict) -> None:
    start = "multinomial/gamma-25-delta"
    assert known[f"{start}-1/found@4"].value == 0.5
    assert known[f"{start}-2/found@4"].value == 1.0
    assert known[f"{start}-2 over gamma-25-delta-1/found@4"].value == 0.5
    assert known[f"{start}-2 over gamma-25-delta-1/z"].value > 0
    assert known[f"{start}-2 over gamma-25-delta-1/nats"].value == pytest.approx(0.3)
    assert known[f"{start}-2 over unmarked/nats"].value == pytest.approx(0.5)
    assert known[f"{start}-2/spike-correlation"].value == pytest.approx(1.0)
    assert known[f"{start}-2/green-by-entropy"].value == pytest.approx(0.6)
    assert known[f"{start}-2/exponent"].value == pytest.approx(0.5)
    assert known[f"{start}-2/exponent-near-half"].value == pytest.approx(numbers.NEAR)
    assert known[f"{start}-2/surprise-below"].value > 0
    assert known["multinomial/unmarked/excess@0.01_repeated/gamma-25"].value == pytest.approx(0.09)
    assert known["multinomial/unmarked/slack@0.01/gamma-25"].value == pytest.approx(0.01)
    assert known["multinomial/unmarked/true@4/gamma-25"].value == 1.0
    assert known["multinomial/unmarked/false@4_repeated/gamma-25"].value == pytest.approx(0.1)
    assert known[f"{start}-1/z_repeated"].value == pytest.approx(math.sqrt(2) * known[f"{start}-1/z"].value)
    assert known["multinomial/agreement@4/25"].value <= 0
    assert known["multinomial/kept@4"].value <= known[f"{start}-2/found@4/25"].value
    assert known[f"{start}-2/found@4/25"].value == 0.5
    assert 0 <= known[f"{start}-2/predicted@5/25"].value <= known[f"{start}-2/predicted@4/25"].value <= 1


def test_intervals_hold_their_values(known: dict) -> None:
    for name, estimate in known.items():
        if math.isfinite(estimate.lo):
            assert estimate.lo - 1e-12 <= estimate.value <= estimate.hi + 1e-12, name


def test_the_variance_that_entropy_explains_is_left_out() -> None:
    stream = np.random.default_rng(0)
    spikes = stream.uniform(0.5, 0.9, 4000)
    scored = np.full(4000, 200)
    green = stream.binomial(scored, spikes)
    share = numbers._variance(green.astype(float), scored.astype(float), spikes, 0.7)
    assert abs(share.value) < 0.05
    assert share.lo < 0.03


def test_z_is_that_of_the_detector() -> None:
    from assay.watermark import Watermark

    ids = np.random.default_rng(0).integers(0, 50, (4, 80))
    seen = Watermark("simple_1", vocab_size=50, gamma=0.5).detect_many(list(ids))
    made = {"green": [d.green for d in seen], "scored": [d.scored for d in seen]}
    assert marked.z_scores(made, 0.5).tolist() == pytest.approx([d.z for d in seen])


def test_no_key_is_in_a_result_or_a_plan(spec: Spec) -> None:
    text = json.dumps([job.as_dict() for job in spec.jobs("cpu")]) + (spec.folder / "results.json").read_text()
    for seed in (0, 1, 2):
        assert str(models.key(seed)) not in text
