"""Human text under every scheme: how often it looks marked, repeated n-grams counted once or each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reproductions.spec import Job

from . import models
from .marked import below
from .texts import documents

WAYS: dict[str, dict[str, bool]] = {"": {}, "_repeated": {"unique_ngrams": False}, "_strict": {"strict": True}}
"""Ways to count: as is usual for the scheme, every n-gram each time, and every context once."""


def examine(job: Job, folder: Path) -> dict[str, Any]:
    """Look for a mark that is not there, in pieces of text of one length, under the key of a seed.

    ``schemes``: by scheme and source, ``count`` pieces, ``z4`` and ``z5`` of them above these, ``small`` with a
    p-value at most each of ``RATES`` (marked.py), and the same with repetitions counted each time
    (``..._repeated``), where every context, and every token of a list, counts once (``..._strict``), and with the
    p-value of a binomial, which takes all n-grams that count once for independent (``small_binomial``); ``again`` and
    ``again_strict``, the share of n-grams that the first and the third of these leave out.
    """
    from assay.watermark import Watermark

    plan = job.plan
    encode, size = models.vocabulary(plan["vocabulary"])
    found: dict[str, dict[str, Any]] = {scheme: {} for scheme in plan["schemes"]}
    tokens = {}
    for source in plan["sources"]:
        texts = models.pieces(encode(documents(source)[: plan.get("documents")]), plan["length"])
        tokens[source] = len(texts) * plan["length"]
        for scheme, settings in plan["schemes"].items():
            marked = Watermark(
                scheme, vocab_size=size, gamma=plan["gamma"], key=models.key(job.seed), **(settings or {})
            )
            found[scheme][source] = _counts(marked, texts)
    return {"schemes": found, "tokens": tokens, "vocab_size": size}


def _counts(marked: Any, texts: list[list[int]]) -> dict[str, Any]:
    """What each way of counting says."""
    counts: dict[str, Any] = {"count": len(texts)}
    scored = {}
    for name, options in WAYS.items():
        fixed = marked.scheme.fixed and name == "_strict"  # tokens of one list count once anyway
        seen = marked.detect_many(texts, **({} if fixed else options))
        z = np.array([d.z for d in seen])
        counts[f"z4{name}"], counts[f"z5{name}"] = int((z > 4).sum()), int((z > 5).sum())
        counts[f"small{name}"] = below([d.log10_p for d in seen]).tolist()
        scored[name] = sum(d.scored for d in seen)
        if not name:
            counts["small_binomial"] = below(_binomial(marked, seen)).tolist()
    for name in ("", "_strict"):
        counts[f"again{name}"] = round(1 - scored[name] / scored["_repeated"], 5)
    return counts


def _binomial(marked: Any, seen: Any) -> Any:
    """log10 of P(X >= green) for X ~ Binomial(scored, γ); where scores are no hits, that of the detection."""
    from assay.watermark.statistics import log_binomial_tail

    if marked.scheme.null != "bernoulli":
        return [d.log10_p for d in seen]
    green, n = (np.array([getattr(d, name) for d in seen]) for name in ("green", "scored"))
    return log_binomial_tail(green, n, marked.scheme.gamma) / np.log(10)
