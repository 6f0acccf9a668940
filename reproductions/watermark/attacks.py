"""Marked texts under attack: copied into human text, or with tokens changed; z of the whole text, and of windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.roc import roc
from assay.core.seeds import seed as named_seed
from reproductions.job import needed
from reproductions.spec import Job

from . import models
from .marked import continued, watermark
from .texts import documents

STATED = (1e-3, 1e-5)
"""Error rates at which p-values call a text marked."""
MEASURED = (0.01, 0.001)
"""Error rates for which the threshold is read off human texts."""
WAYS = ("plain", "winmax")


def examine(job: Job, folder: Path) -> dict[str, Any]:
    """Generate long marked texts, attack them, and tell them from human texts of the same length.

    ``attacks``: by attack, and "none": ``count`` texts, and for the z of the whole text (``plain``) and that of
    the best window (``winmax``) the ``auc`` and the ``tpr`` at ``MEASURED`` error rates, each [value, lo, hi], the
    mean ``z``, and how many texts have a ``found`` p-value of at most each of ``STATED``, the window's calibrated.
    ``z``: the mean z of the unattacked text by length; ``short``: ``found`` in the first tokens of attacked texts.
    """
    from assay.watermark.edits.base import edit_document, named_edits

    plan = job.plan
    lm = models.load(needed(job, folder, "generator"), plan)
    begun, _ = models.prompts(lm, plan, job.seed)
    marked = watermark(plan["mark"], lm.vocab_size, job.seed)
    texts = [np.array(ids) for ids in continued(lm, begun, marked, plan, job.seed)]
    length = len(texts[0])
    people = [np.array(ids) for ids in models.pieces(_human(lm, plan), length)]
    order = np.random.default_rng(named_seed(0, "people")).permutation(len(people))
    negatives = [people[index] for index in order[: plan["negatives"]]]
    around = [people[index] for index in order[plan["negatives"] :]]
    null = _scores(marked, negatives)
    found, short = {"none": _compared(marked, texts, null)}, {}
    for text in plan["edits"]:
        for edit in named_edits(text):
            attacked = [
                edit_document(edit, ids, root=job.seed, vocab_size=lm.vocab_size, human=around) for ids in texts
            ]
            found[edit.label] = _compared(marked, attacked, null)
            short[edit.label] = {
                str(n): _stated(marked.detect_many([ids[:n] for ids in attacked])) for n in plan["lengths"]
            }
    false = {way: [int((np.array(p) <= rate).sum()) for rate in STATED] for way, p in null["p"].items()}
    z = {str(n): _moments([d.z for d in marked.detect_many([ids[:n] for ids in texts])]) for n in plan["lengths"]}
    return {
        "count": len(texts),
        "length": length,
        "negatives": len(negatives),
        "false": false,
        "attacks": found,
        "short": short,
        "z": z,
    }


def _human(lm: Any, plan: Mapping[str, Any]) -> list[list[int]]:
    texts = [text for source in plan["human"] for text in documents(source)]
    return [lm.encode(text) for text in texts[: plan.get("documents")]]


def _scores(marked: Any, texts: Sequence[np.ndarray]) -> dict[str, Any]:
    """z and p-values of both ways; windows get p-values only as far as a rate of ``STATED`` asks for them."""
    plain = marked.detect_many(texts)
    windows = [marked.detect_windows(ids) for ids in texts]
    return {
        "z": {"plain": [d.z for d in plain], "winmax": [d.z for d in windows]},
        "p": {
            "plain": [d.p_value for d in plain],
            "winmax": [
                min((rate for rate in STATED if d.verdict(rate) == "marked"), default=1.0) for d in windows
            ],
        },
    }  # fmt: skip


def _compared(marked: Any, texts: Sequence[np.ndarray], null: dict[str, Any]) -> dict[str, Any]:
    seen = _scores(marked, texts)
    found: dict[str, Any] = {"count": len(texts)}
    for way in WAYS:
        z, other = np.array(seen["z"][way]), np.array(null["z"][way])
        curve = roc(np.concatenate([z, other]), np.arange(len(z) + len(other)) < len(z))
        area = curve.interval("auc")
        rates = [curve.interval(rate) for rate in MEASURED]
        found[way] = {
            "auc": _rounded(area),
            "tpr": [_rounded(rate) for rate in rates],
            "z": _moments(z),
            "found": [int((np.array(seen["p"][way]) <= rate).sum()) for rate in STATED],
        }
    return found


def _stated(seen: Sequence[Any]) -> list[int]:
    return [sum(d.p_value <= rate for d in seen) for rate in STATED]


def _moments(values: Any) -> list[float]:
    """Mean and standard deviation."""
    return [round(float(np.mean(values)), 4), round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4)]


def _rounded(estimate: Any) -> list[float]:
    return [round(float(value), 5) for value in (estimate.value, estimate.lo, estimate.hi)]
