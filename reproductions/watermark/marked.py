"""Marked texts: generated, looked for, and what theory and an oracle say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.files import read_json, to_json, write_atomic
from reproductions.job import needed
from reproductions.spec import Job

from . import models

TEXTS = "texts.json"
NULL_KEYS = 20
"""Keys under which unmarked text is looked at, to see how often p-values are small."""
BINS = 5
THRESHOLDS = (4, 5)
"""Of z."""
RATES = (0.05, 0.01, 0.001, 0.0001)


def generate(job: Job, folder: Path) -> dict[str, Any]:
    """Go on from the prompts of a seed, with a mark or without, and measure the texts.

    ``texts``: a list each, one entry a text: ``green`` and ``scored`` distinct n-grams, and likewise with repetitions
    (``..._repeated``), ``spike`` the mean spike
    entropy of the generator's distributions, ``entropy`` their mean Shannon entropy and ``surprise`` the mean
    -log p of the tokens under them, all as they were drawn from but without the mark; ``oracle`` the mean -log p of the
    tokens under the oracle. Unmarked texts are looked at for each gamma (``null``). ``by_spike``: see there.
    """
    plan, mark = job.plan, job.plan["mark"]
    lm = models.load(needed(job, folder, "generator"), plan)
    begun, human = models.prompts(lm, plan, job.seed)
    marked = watermark(mark, lm.vocab_size, job.seed) if mark else None
    if (folder / TEXTS).exists():  # the job was stopped after it
        found = read_json(folder / TEXTS)["texts"]
    else:
        found = continued(lm, begun, marked, plan, job.seed)
        write_atomic(folder / TEXTS, to_json({"prompts": begun, "texts": found}))
    temperature = plan["decoding"].get("temperature", 1.0)
    texts: dict[str, Any] = {}
    result: dict[str, Any] = {"texts": texts, "vocab_size": lm.vocab_size}
    if marked is not None:
        effective = mark["delta"] / temperature
        seen = marked.detect_many(found)
        texts["green"], texts["scored"] = [d.green for d in seen], [d.scored for d in seen]
        again = marked.detect_many(found, unique_ngrams=False)
        texts["green_repeated"], texts["scored_repeated"] = [d.green for d in again], [d.scored for d in again]
        means, spikes = drawn_from(lm, begun, found, temperature, mark["gamma"], effective)
        texts.update(means)
        result["by_spike"] = by_spike(seen, spikes, mark["gamma"], effective)
        result["lengths"] = by_length(marked, found, plan["lengths"])
    else:
        texts.update(drawn_from(lm, begun, found, temperature, 0.5, 0.0)[0])
        result["null"] = {f"{gamma:g}": nulls(found, gamma, lm.vocab_size, job.seed) for gamma in plan["gammas"]}
        result["human"] = {
            "null": {f"{gamma:g}": nulls(human, gamma, lm.vocab_size, job.seed) for gamma in plan["gammas"]},
            "surprise": drawn_from(lm, begun, human, temperature, 0.5, 0.0)[0]["surprise"],
        }
    del lm
    oracle = models.load(needed(job, folder, "oracle"), plan)
    texts["oracle"] = surprise(oracle, begun, found)
    if marked is None:
        result["human"]["oracle"] = surprise(oracle, begun, human)
    return result


def watermark(mark: Mapping[str, Any], vocab_size: int, seed: int) -> Any:
    """The Watermark of a plan under the key of a seed."""
    from assay.watermark import Watermark

    return Watermark(mark.get("scheme", "simple_1"), vocab_size=vocab_size, gamma=mark["gamma"], delta=mark["delta"],
                     key=models.key(seed))  # fmt: skip


def continued(
    lm: Any, begun: Sequence[Sequence[int]], marked: Any, plan: Mapping[str, Any], seed: int
) -> list[list[int]]:
    """``rounds`` times ``new_tokens`` ids after each prompt.

    From the second round on the prompt is what was generated last, as long as the first one.
    """
    from assay.watermark.generation import generate as generated

    found: list[list[int]] = [[] for _ in begun]
    after = [list(ids) for ids in begun]
    for number in range(plan.get("rounds", 1)):
        new = generated(
            lm,
            after,
            marked,
            new_tokens=plan["new_tokens"],
            seed=seed,
            batch_size=plan["batch_size"],
            names=[f"{number}/{place}" for place in range(len(after))],
            **plan["decoding"],
        )
        found = [[*text, *ids] for text, ids in zip(found, new, strict=True)]
        after = [text[-len(first) :] for text, first in zip(found, begun, strict=True)]
    return found


def drawn_from(
    lm: Any,
    begun: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    temperature: float,
    gamma: float,
    delta: float,
) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """Means over each text of what the generator's own distributions say, at the temperature they were drawn at.

    Softmax of logits over τ with a bonus δ is softmax((z + δ 1_G)/τ) = softmax(z/τ + (δ/τ) 1_G), so that the theorems
    hold for the distributions at τ with the bonus δ/τ: ``delta`` is that.

    Returns:
        The means by name, and the spike entropy at every token of each text.
    """
    import torch

    from assay.watermark.theory import spike_entropy, spike_modulus

    modulus = spike_modulus(gamma, delta)
    found: dict[str, list[float]] = {"spike": [], "entropy": [], "surprise": []}
    every = []
    for prompt, text in zip(begun, texts, strict=True):
        known = list(prompt)[-max(1, (lm.context or 10**9) - len(text)) :]
        p = lm.next_probabilities([*known, *text])[len(known) - 1 :]
        p[:, list(lm.stops)] = 0.0  # never generated
        p = p.pow(1 / temperature)
        p /= p.sum(1, keepdim=True)
        of_tokens = p[torch.arange(len(text)), torch.tensor(list(text))]
        every.append(spike_entropy(p, modulus).numpy())
        found["spike"].append(round(float(every[-1].mean()), 5))
        found["entropy"].append(round(float(-torch.special.xlogy(p, p).sum(1).mean()), 4))
        found["surprise"].append(round(float(-of_tokens.clamp_min(1e-30).log().mean()), 4))
    return found, every


def by_spike(seen: Sequence[Any], spikes: Sequence[np.ndarray], gamma: float, delta: float) -> list[list[float]]:
    """Green tokens by the spike entropy of the distribution they were drawn from, of all texts together.

    Returns:
        For each of ``BINS`` equal parts of the range from 1/(1 + z), all on one token, to 1 that holds any: its number,
        the mean spike entropy, how many n-grams counted, and how many of them were green.
    """
    from assay.watermark.theory import spike_modulus

    least = 1 / (1 + spike_modulus(gamma, delta))
    of_tokens = np.concatenate([s[d.offset :][d.counted] for s, d in zip(spikes, seen, strict=True)])
    green = np.concatenate([d.mask[d.counted] for d in seen])
    places = np.clip(((of_tokens - least) / (1 - least) * BINS).astype(int), 0, BINS - 1)
    found = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            found.append(
                [place, round(float(of_tokens[inside].mean()), 5), int(inside.sum()), int(green[inside].sum())]
            )
    return found


def surprise(oracle: Any, begun: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> list[float]:
    """The mean -log p of each text's tokens under an oracle that has read the prompt, in nats."""
    from assay.watermark.perplexity import perplexity

    return [round(float(loss), 4) for loss in perplexity(oracle, texts, begun, batch_size=8).losses]


def by_length(marked: Any, texts: Sequence[Sequence[int]], lengths: Sequence[int]) -> dict[str, dict[str, Any]]:
    """What the first so many ids of each text show.

    Returns:
        By length: mean and standard deviation of ``z`` over texts, how many are ``found`` above each of ``THRESHOLDS``,
        and how many texts have so many ``scored`` n-grams.
    """
    known = {}
    for length in lengths:
        seen = marked.detect_many([text[:length] for text in texts])
        z = np.array([d.z for d in seen])
        scored, counts = np.unique([d.scored for d in seen], return_counts=True)
        known[str(length)] = {
            "z": [round(float(z.mean()), 4), round(float(z.std(ddof=1)) if len(z) > 1 else 0.0, 4)],
            "found": [int((z > threshold).sum()) for threshold in THRESHOLDS],
            "scored": {str(n): int(count) for n, count in zip(scored, counts, strict=True)},
        }
    return known


def nulls(texts: Sequence[Sequence[int]], gamma: float, vocab_size: int, seed: int) -> dict[str, Any]:
    """What unmarked texts look like under keys that they know nothing of.

    Returns:
        ``z4``, ``z5``: texts above, of all under ``NULL_KEYS`` keys; ``small``: how many p-values are at most each of
        ``RATES``; with distinct n-grams counted once, and ``..._repeated`` with repetitions; ``repeated``: the
        share of n-grams that came before in their text.
    """
    from assay.watermark import Watermark

    names = ("z4", "z5", "z4_repeated", "z5_repeated")
    found: dict[str, Any] = {"count": len(texts) * NULL_KEYS, **dict.fromkeys(names, 0)}
    small, often = np.zeros(len(RATES), int), np.zeros(len(RATES), int)
    scored = total = 0
    for number in range(NULL_KEYS):
        one = Watermark("simple_1", vocab_size=vocab_size, gamma=gamma, key=models.key(seed, number))
        once, every = one.detect_many(texts), one.detect_many(texts, unique_ngrams=False)
        for end, seen in (("", once), ("_repeated", every)):
            for threshold in THRESHOLDS:
                found[f"z{threshold}{end}"] += sum(d.z > threshold for d in seen)
        small += below([d.log10_p for d in once])
        often += below([d.log10_p for d in every])
        scored, total = sum(d.scored for d in once), sum(d.scored for d in every)
    repeated = 1 - scored / total
    return found | {"small": small.tolist(), "small_repeated": often.tolist(), "repeated": round(repeated, 5)}


def below(log10_p: Sequence[float]) -> np.ndarray:
    """How many p-values are at most each of ``RATES``."""
    values = np.asarray(log10_p)
    return np.array([(values <= math.log10(rate)).sum() for rate in RATES])


def predicted(scored: Mapping[int, int], spike: float, mark: Mapping[str, Any], temperature: float, z: float) -> float:
    """The share of texts above z by theorem 4.2.

    Args:
        scored: how many texts have so many n-grams that count.
        spike: average spike entropy of the run.
    """
    from assay.watermark.theory import detection_power

    effective = mark["delta"] / temperature
    powers = [detection_power(n, spike, mark["gamma"], effective, z=z) for n in scored]
    return float(np.average(powers, weights=list(scored.values())))


def z_scores(row: Mapping[str, Any], gamma: float, end: str = "") -> np.ndarray:
    """z of each text, from green and scored n-grams, or from those whose names have an end."""
    green, scored = (np.array(row[f"{name}{end}"], float) for name in ("green", "scored"))
    return (green - gamma * scored) / np.sqrt(scored * gamma * (1 - gamma))


def all_texts(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The texts of all seeds together."""
    names: Iterator[str] = iter(rows[0]["texts"])
    return {name: [value for row in rows for value in row["texts"][name]] for name in names}
