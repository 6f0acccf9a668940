"""The attacks: the same references for every target model; scores are kept, so that attacks can be paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.seeds import seed
from assay.core.shards import Shards
from assay.membership import canary_queries
from assay.membership.attacks.registry import parse
from assay.membership.canaries.optimise import diversity
from assay.membership.queries import PlainQueries, Queries, ReadyQueries
from assay.membership.resampling import two_way
from assay.membership.signals import Answers
from assay.membership.store import AnswerStore, ask_pool
from assay.pools import Pool
from reproductions.job import needed
from reproductions.spec import Job

from .comparing import curve, two_way_difference
from .pools import pool_of, records_of

SCORES = "scores.npz"
STATISTICS: dict[str, str | float] = {"auc": "auc", "tpr@0.01": 0.01, "tpr@0.001": 0.001}
LIRA = {"online": "lira:mode=online", "offline": "lira:mode=offline"}
OTHERS = {"loss": "loss", "global-threshold": "global-threshold", "offset": "offset"}
PASS, SMALL = 0.12e-3, 0.013e-3
"""Seconds of a forward pass of one image on one quiet core: networks of the cpu tier for CIFAR-10, and for MNIST."""
TARGETS = 8
"""As many, at the most."""
Scores = dict[str, np.ndarray]


def plain(job: Job, folder: Path) -> dict[str, Any]:
    """LiRA with the record itself and with augmented queries, simpler attacks, and LiRA on fewer references."""
    pool, references = pool_of(job, folder)
    data = records_of(pool, job.plan["records"])
    kinds = {
        "one": PlainQueries(data),
        "augmented": PlainQueries(data, job.plan["queries"], augment=job.plan["augment"]),
    }
    asked = {name: _ask(pool, queries, folder) for name, queries in kinds.items()}
    scores: Scores = {}
    for name, spec in OTHERS.items():
        scores[name] = _attack(pool, asked["one"], data.labels, range(references), references, spec)
    for count in job.plan["references"]:
        end = "" if count == references else f"@{count}"
        for mode, spec in LIRA.items():
            for kind, answers in asked.items():
                start = f"{kind}-{mode}"
                scores[f"{start}{end}"] = _attack(pool, answers, data.labels, range(count), references, spec)
    return {"queries": job.plan["queries"], **_result(pool, references, scores, folder, {})}


def canary(job: Job, folder: Path) -> dict[str, Any]:
    """Canary queries of one mode, all together and fewer of them, optimised and judged on so many references."""
    pool, references = pool_of(job, folder)
    data, mode = records_of(pool, job.plan["records"]), job.plan["mode"]
    scores: Scores = {}
    about: dict[str, Any] = {}
    for count in job.plan["references"]:
        found = canary_queries(
            pool.models(range(count)),
            pool.in_mask[:count, : len(data)].copy(),
            data.images(),
            data.labels,
            mode=mode,
            seed=job.seed,
            sample_ids=data.sample_ids.tolist(),
            shards=Shards(folder / "canaries" / str(count)),
            **job.plan["canary"],
        )
        answers = _ask(pool, ReadyQueries(found.images), folder)
        end = "" if count == references else f"@{count}"
        shown = sorted({1, 2, 5, found.images.shape[1]}) if not end else [found.images.shape[1]]
        for queries in (number for number in shown if number <= found.images.shape[1]):
            taken = [one[:, :queries] for one in answers]
            few = "" if queries == found.images.shape[1] else f"/queries-{queries}"
            name = f"canary-{mode}{end}{few}"
            scores[name] = _attack(pool, taken, data.labels, range(count), references, LIRA[mode])
        about[f"diversity{end}"] = round(float(diversity(found.images).mean()), 5)
        about[f"passes{end}"] = found.cost.forward
    with np.load(needed(job, folder, "plain") / SCORES, allow_pickle=False) as kept:
        rivals = {name: kept[name] for name in kept.files}
    return {"queries": job.plan["canary"]["queries"], **_result(pool, references, scores, folder, rivals), **about}


def forecast(job: Job) -> tuple[int, float]:
    """Model calls and seconds, roughly: asking all models, and optimising; a backward pass counts as two."""
    plan = job.plan
    asked = plan["records"] * (plan["queries"] + 1) * (max(plan["references"]) + TARGETS)
    made = 0
    if plan["work"] == "canary":
        own = plan["canary"]
        made = plan["records"] * own["queries"] * own["steps"] * 2 * 3 * len(plan["references"])
        asked *= len(plan["references"])
    return asked + made, (asked + made) * (SMALL if job.experiment.startswith("mnist") else PASS)


def _ask(pool: Pool, queries: Queries, folder: Path) -> list[np.ndarray]:
    return ask_pool(pool, AnswerStore(folder / "answers", queries, classes=pool.data.num_classes))


def _attack(
    pool: Pool,
    answers: Sequence[np.ndarray],
    labels: np.ndarray,
    chosen: Sequence[int],
    references: int,
    spec: str,
) -> np.ndarray:
    """Scores of the records in every target model: [T, N]."""
    _, attack = parse(spec)
    mask, count = pool.in_mask[:, : len(labels)], len(pool)
    first = Answers(
        reference=[answers[m] for m in chosen],
        in_mask=mask[list(chosen)],
        target=answers[references],
        labels=labels,
    )
    found = [attack.score(first).scores]
    for target in range(references + 1, count):
        other = Answers(reference=first.reference, in_mask=first.in_mask, target=answers[target], labels=labels)
        found.append(attack.score(other).scores)
    return np.stack(found)


def _result(
    pool: Pool, references: int, scores: Scores, folder: Path, rivals: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Every attack's area and rates, those of a shuffled truth, curves, and differences from the rivals."""
    records = next(iter(scores.values())).shape[1]
    member = pool.in_mask[references:, :records]
    np.savez(folder / SCORES, **scores)  # type: ignore[arg-type]
    measured = {
        name: {what: _plain(two_way(own, member, statistic, seed=0)) for what, statistic in STATISTICS.items()}
        for name, own in scores.items()
    }
    rng = np.random.default_rng(seed(0, "shuffled"))
    shuffled = np.stack([rng.permutation(row) for row in member])
    null = {name: _plain(two_way(own, shuffled, seed=0)) for name, own in scores.items()}
    over = {
        f"{name} over {rival}": {
            what: _plain(two_way_difference(own, other, member, statistic)) for what, statistic in STATISTICS.items()
        }
        for name, own in scores.items()
        for rival, other in rivals.items()
        if "@" not in name and "/" not in name and "@" not in rival and name.rpartition("-")[2] in rival
    }
    own = {
        f"{name} over {rival}": {
            what: _plain(two_way_difference(scores[name], scores[rival], member, statistic))
            for what, statistic in STATISTICS.items()
        }
        for name, rival in _pairs(scores)
    }
    return {
        "targets": len(member),
        "references": references,
        "records": records,
        "members": int(member.sum()),
        "nonmembers": int((~member).sum()),
        "attacks": measured,
        "shuffled": null,
        "over": {**over, **own},
        "curves": {name: curve(row, member) for name, row in scores.items() if "@" not in name and "/" not in name},
    }


def _pairs(scores: Scores) -> list[tuple[str, str]]:
    """Attacks of one job that are compared: LiRA with simpler ones, all queries with one."""
    pairs = [("one-online", "global-threshold"), ("one-online", "one-offline"), ("one-online", "offset")]
    pairs += [(f"canary-{mode}", f"canary-{mode}/queries-1") for mode in LIRA]
    return [pair for pair in pairs if all(name in scores for name in pair)]


def _plain(estimate: Any) -> list[float]:
    return [round(float(value), 5) for value in (estimate.value, estimate.lo, estimate.hi)]
