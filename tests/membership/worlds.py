"""Small worlds for tests of attacks: models whose confidences are known normals, and slow, obvious attacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm


@dataclass(frozen=True, eq=False, kw_only=True)
class World:
    """Logits whose confidences are ``phi``, of two classes with the true one first."""

    phi: np.ndarray
    in_mask: np.ndarray
    target: np.ndarray
    member: np.ndarray
    labels: np.ndarray

    @property
    def reference_logits(self) -> np.ndarray:
        return logits_of(self.phi)

    @property
    def target_logits(self) -> np.ndarray:
        return logits_of(self.target)

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.reference_logits, self.in_mask, self.target_logits, self.labels


def logits_of(phi: np.ndarray) -> np.ndarray:
    """Logits [..., 2] with the confidence ``phi`` in class 0; NaN stays NaN."""
    return np.stack([phi, np.zeros_like(phi)], axis=-1)


def world(
    seed: int, *, models: int = 8, records: int = 12, queries: int = 2, effect: float = 1.0, missing: float = 0.0
) -> World:
    """Records of different difficulty, to which models that saw them answer with ``effect`` more confidence."""
    rng = np.random.default_rng(seed)
    order = rng.random((models, records)).argsort(axis=0)
    in_mask = order < models // 2
    member = rng.random(records) < 0.5
    if records > 1:
        member[:2] = [True, False]
    hard = rng.normal(0, 3, records)[:, None]
    phi = hard + effect * in_mask[:, :, None] + rng.normal(0, 1, (models, records, queries))
    target = hard + effect * member[:, None] + rng.normal(0, 1, (records, queries))
    phi[rng.random(phi.shape) < missing] = np.nan
    return World(phi=phi, in_mask=in_mask, target=target, member=member, labels=np.zeros(records, dtype=np.int64))


def slow_lira(given: World, *, mode: str, variance: str, sided: str, tail: str = "log-survival") -> np.ndarray:
    """The attack record by record, as the notes write it; every record needs a model on each side that is used."""
    sides = {"in": given.in_mask, "out": ~given.in_mask}
    if mode == "offline":
        del sides["in"]
    records, queries = given.target.shape
    lists = {
        name: {
            (i, a): [v for v, chosen in zip(given.phi[:, i, a], mask[:, i], strict=True) if chosen and not np.isnan(v)]
            for i in range(records)
            for a in range(queries)
        }
        for name, mask in sides.items()
    }
    pooled = {name: [v for one in found.values() for v in one] for name, found in lists.items()}
    floor = 1e-3 * np.std([v for one in pooled.values() for v in one])

    def spread(name: str, key: tuple[int, int]) -> float:
        residuals = [v - np.median(one) for one in lists[name].values() for v in one]
        if variance == "residual" or (variance == "per-example" and len(lists[name][key]) < 2):
            found = np.std(residuals)
        elif variance == "per-example":
            found = np.std(lists[name][key])
        elif variance == "canary-code":
            found = np.std(pooled[name])
        else:
            found = np.std(pooled["in" if mode == "online" else "out"])
        return float(max(found, floor))

    scores = []
    for i in range(records):
        parts = []
        for a in range(queries):
            value, key = given.target[i, a], (i, a)
            density = {name: norm.logpdf(value, np.median(lists[name][key]), spread(name, key)) for name in lists}
            if mode == "online":
                parts.append(density["in"] - density["out"])
            elif sided == "two":
                parts.append(-density["out"])
            else:
                u = (value - np.median(lists["out"][key])) / spread("out", key)
                parts.append(u if tail == "z-score" else -norm.logsf(u))
        scores.append(sum(parts) / queries)
    return np.array(scores)


def slow_rmia(
    given: World,
    population: World,
    *,
    mode: str,
    gamma: float = 1.0,
    a: float = 0.3,
    strict: bool = True,
    queries: str = "mean",
) -> np.ndarray:
    """Robust membership inference pair by pair, on plain probabilities."""

    def marginal(values: np.ndarray, mask: np.ndarray) -> float:
        outs = [v for v, inside in zip(values, mask, strict=True) if not inside and not np.isnan(v)]
        ins = [v for v, inside in zip(values, mask, strict=True) if inside and not np.isnan(v)]
        if mode == "offline":
            return 0.5 * ((1 + a) * float(np.mean(outs)) + 1 - a)
        return (float(np.mean(ins)) + float(np.mean(outs))) / 2 if ins else float(np.mean(outs))

    def ratios(one: World, each: bool) -> list[list[float]]:
        p, star = probability(one.phi), probability(one.target)
        if not each and p.shape[2] > 1:
            p, star = np.nanmean(p, axis=2, keepdims=True), star.mean(axis=1, keepdims=True)
        return [
            [star[i, k] / marginal(p[:, i, k], one.in_mask[:, i]) for k in range(p.shape[2])] for i in range(len(star))
        ]

    of_z = [row[0] for row in ratios(population, False)]
    scores = []
    for row in ratios(given, queries != "mean"):
        wins = np.array([[x / z > gamma if strict else x / z >= gamma for z in of_z] for x in row])
        scores.append((wins.sum(axis=0) > len(row) / 2).mean() if queries == "majority" else wins.mean())
    return np.array(scores)


def probability(phi: np.ndarray) -> np.ndarray:
    """p of the true class."""
    return 1 / (1 + np.exp(-phi))
