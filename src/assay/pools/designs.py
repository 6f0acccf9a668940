"""Membership designs: which model of a pool is trained on which records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..core.errors import SettingError, did_you_mean
from ..core.seeds import seed as named_seed
from ..tensors.random import bits

DESIGNS = ("half", "pairs", "all", "share", "sizes", "partition")


def membership(design: str | np.ndarray, models: int, records: int, seed: int = 0) -> np.ndarray:
    """The membership matrix of a pool: [M, N], true where model m is trained on record n.

    Every draw is a word of a counter-based generator that belongs to (seed, position of the record), so that the
    matrix depends on neither the machine nor the order of the work.

    ==================  ===========================================================================================
    ``"half"``          each record in exactly floor(M / 2) models, drawn without replacement
    ``"pairs"``         models 2k and 2k + 1 are complementary, and each record's side is a fair coin; M is even
    ``"all"``           every model on every record: models that differ by their seed alone
    ``"share:0.3"``     each model on exactly round(0.3 N) records
    ``"sizes:100,500"`` models in runs of one per size, the smaller of a run nested in the larger; M / sizes runs
    ``"partition"``     disjoint parts that cover all records and differ in size by at most one
    an array            bool [M, N], taken as it is
    ==================  ===========================================================================================

    Args:
        design: one of the above.
        models: M, at least 1.
        records: N, at least 1.
        seed: root of the draws.

    Returns:
        bool [M, N].

    Raises:
        SettingError: an unknown design, or one that does not fit M and N.

    Cost: M N words; a quarter of a second for 64 models and 60,000 records.

    Balanced halves: Carlini et al., Membership Inference Attacks From First Principles, S&P 2022 (arXiv 2112.03570).

    >>> seen = membership("half", models=8, records=5)
    >>> seen.shape, seen.sum(0).tolist()
    ((8, 5), [4, 4, 4, 4, 4])
    """
    if models < 1 or records < 1:
        raise SettingError(f"A pool of {models} models on {records} records; at least 1 of each is needed.")
    if not isinstance(design, str):
        return _given(design, models, records)
    name, colon, argument = design.partition(":")
    if name not in _MAKERS:
        raise SettingError(f"There is no membership design {design!r}.{did_you_mean(name, DESIGNS)}")
    if bool(colon) != (name in ("share", "sizes")):
        raise SettingError(
            f"The membership design is {design!r}; allowed: 'half', 'pairs', 'all', 'share:P' such as 'share:0.3', "
            "'sizes:A,B' such as 'sizes:100,500', 'partition', or an array bool [M, N]."
        )
    return _MAKERS[name](argument, models, records, seed)


def _words(records: int, count: int, seed: int) -> np.ndarray:
    """``count`` words for each record: uint64 [N, count]."""
    root = torch.tensor([named_seed(seed, "pool", "membership")], dtype=torch.int64)
    return bits(bits(root, records)[0], count).numpy().view(np.uint64)


def _ranks(records: int, count: int, seed: int) -> np.ndarray:
    """``count`` random orders of the records: int64 [count, N], the place of each record in each."""
    words = np.ascontiguousarray(_words(records, count, seed).T)
    order = words.argsort(axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(records)[None], axis=1)
    return ranks


def _half(_: str, models: int, records: int, seed: int) -> np.ndarray:
    half = models // 2
    seen = np.zeros((records, models), dtype=bool)
    if half:
        chosen = np.argpartition(_words(records, models, seed), half - 1, axis=1)[:, :half]
        np.put_along_axis(seen, chosen, True, axis=1)
    return np.ascontiguousarray(seen.T)


def _pairs(_: str, models: int, records: int, seed: int) -> np.ndarray:
    if models % 2:
        raise SettingError(f"The membership design 'pairs' with {models} models; an even number is needed.")
    sides = (_words(records, models // 2, seed) >> np.uint64(63)).astype(bool).T
    return np.stack([sides, ~sides], axis=1).reshape(models, records)


def _all(_: str, models: int, records: int, seed: int) -> np.ndarray:
    return np.ones((models, records), dtype=bool)


def _share(argument: str, models: int, records: int, seed: int) -> np.ndarray:
    try:
        share = float(argument)
    except ValueError:
        share = float("nan")
    if not 0 < share <= 1:
        raise SettingError(f"The membership design is 'share:{argument}'; a share above 0 and at most 1 is needed.")
    return _ranks(records, models, seed) < round(share * records)


def _sizes(argument: str, models: int, records: int, seed: int) -> np.ndarray:
    parts = argument.split(",")
    sizes = [int(part) for part in parts if part.strip().isdecimal()]
    if len(sizes) != len(parts) or any(not 0 < size <= records for size in sizes):
        raise SettingError(
            f"The membership design is 'sizes:{argument}'; numbers of records from 1 to {records} are needed, "
            "separated by commas."
        )
    if models % len(sizes):
        raise SettingError(
            f"{models} models cannot be shared out over {len(sizes)} sizes ('sizes:{argument}'); "
            f"choose a multiple of {len(sizes)}."
        )
    ranks = _ranks(records, models // len(sizes), seed)
    return (ranks[:, None, :] < np.array(sizes)[None, :, None]).reshape(models, records)


def _partition(_: str, models: int, records: int, seed: int) -> np.ndarray:
    if models > records:
        raise SettingError(f"{records} records cannot be shared out over {models} models; choose at most {records}.")
    return _ranks(records, 1, seed) % models == np.arange(models)[:, None]


def _given(design: object, models: int, records: int) -> np.ndarray:
    array = np.asarray(design)
    whole = array.dtype == bool or (array.dtype.kind in "ui" and array.size > 0 and int(array.max()) <= 1)
    if array.shape != (models, records) or not whole or (array.dtype.kind == "i" and int(array.min()) < 0):
        raise SettingError(
            f"The membership matrix is {array.dtype} of shape {array.shape}; bool [{models}, {records}] is needed, "
            "one row a model and one column a record."
        )
    return np.array(array, dtype=bool)


_MAKERS: dict[str, Callable[[str, int, int, int], np.ndarray]] = {
    "half": _half,
    "pairs": _pairs,
    "all": _all,
    "share": _share,
    "sizes": _sizes,
    "partition": _partition,
}
