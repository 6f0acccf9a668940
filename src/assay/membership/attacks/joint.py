"""The queries of a record as one multivariate normal, with a covariance that is shrunk to its diagonal."""

from __future__ import annotations

import numpy as np

from ...core.errors import SettingError
from ...core.probes import Finding
from .centres import Group

_LOG_2PI = float(np.log(2 * np.pi))
_FLOOR = 1e-3
_MODELS_A_QUERY = 2


def joint_log_density(target: np.ndarray, side: Group, variance: str, findings: list[Finding]) -> np.ndarray:
    """log N(φ*; c, Σ) / K for each record, [N].

    Σ = (1 − w) S + w diag(S), w = K / (K + n): S is the covariance of n answers to all K queries less the centres of
    their records (``"residual"``), or of the answers of a record around their mean (``"per-example"``).

    Args:
        target: [N, K].
        side: reference answers.
        variance: ``"residual"`` or ``"per-example"``.
        findings: a raised spread is added to them.

    Raises:
        SettingError: a record has fewer than 2 K models with answers to all queries.
    """
    records, queries = target.shape
    covariance, models = _covariances(side, variance)
    if models.min() < _MODELS_A_QUERY * queries:
        raise SettingError(
            f"joint needs at least {_MODELS_A_QUERY * queries} {side.name} models of each record for {queries} "
            f"queries, and a record has {int(models.min())}. Leave joint out, or train more reference models."
        )
    behind = models if variance == "per-example" else np.asarray([models.sum()])
    weight = (queries / (queries + behind))[:, None, None]
    diagonal = covariance * np.eye(queries)
    shrunk = (1 - weight) * covariance + weight * diagonal
    overall = side.std(residual=False) or 1.0
    low = np.diagonal(shrunk, axis1=1, axis2=2) < (_FLOOR * overall) ** 2
    if low.any():
        shrunk = shrunk + np.eye(queries) * np.where(low, (_FLOOR * overall) ** 2, 0.0)[:, None, :]
        findings.append(
            Finding(
                code="spread-floor",
                severity="warning",
                message=f"{int(low.sum()):,} of {low.size:,} variances of the {side.name} models' confidence were "
                "raised to 1e-6 of the variance of all values.",
                remedy="See whether reference models are copies of each other, or too few.",
                value=float(low.sum()),
            )
        )
    lower = np.linalg.cholesky(shrunk)
    apart = (target - side.centre)[:, :, None]
    u = np.linalg.solve(np.broadcast_to(lower, (records, queries, queries)), apart)[:, :, 0]
    log_determinant = 2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(-0.5 * (queries * _LOG_2PI + log_determinant + (u * u).sum(axis=1)) / queries)


def _covariances(side: Group, variance: str) -> tuple[np.ndarray, np.ndarray]:
    """Covariances [1 or N, K, K], and the number of models with answers to all queries of each record, [N]."""
    records, queries = side.centre.shape
    models = np.empty(records, dtype=np.int64)
    own = np.empty((records, queries, queries)) if variance == "per-example" else np.empty((0, queries, queries))
    pooled, mean = np.zeros((queries, queries)), np.zeros(queries)
    for place, values, present in side.blocks():
        complete = np.asarray(present.all(axis=2))
        models[place] = n = complete.sum(axis=0)
        apart = np.where(complete[:, :, None], values - side.centre[place], 0.0)
        if variance == "per-example":
            apart = np.where(complete[:, :, None], apart - apart.sum(axis=0) / np.maximum(n, 1)[:, None], 0.0)
            own[place] = np.einsum("mna,mnb->nab", apart, apart) / np.maximum(n, 1)[:, None, None]
        else:
            flat = apart.reshape(-1, queries)
            pooled += flat.T @ flat
            mean += flat.sum(axis=0)
    if variance == "per-example":
        return own, models
    n_all = max(int(models.sum()), 1)
    return (pooled / n_all - np.outer(mean, mean) / n_all**2)[None], models
