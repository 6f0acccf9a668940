"""The language models: trained here from the texts, or pretrained ones; and the prompts they go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import DataError
from assay.core.files import read_json
from assay.core.seeds import seed as named_seed
from assay.core.settings import build
from reproductions.job import RESULT, RUN
from reproductions.spec import Job

from .texts import documents

PUBLIC_KEY = 15485863


def make(job: Job, folder: Path) -> dict[str, Any]:
    """Train the model of a plan by the recipe ``causal-lm``; a pretrained one is only named."""
    plan = job.plan
    if "model" in plan:
        return {"model": plan["model"]}
    from assay.training import TrainSettings, train
    from assay.training.language.causal_lm import CausalLM
    from assay.training.language.tokens import tokenized

    recipe = build(CausalLM, plan["recipe"])
    data, held_out = tokenized(recipe, _corpus(plan, "train"), _corpus(plan, "held-out"))
    run = train(
        recipe,
        data=data,
        validation=held_out,
        out=folder / RUN,
        settings=build(TrainSettings, plan["training"]),
        seed=job.seed,
    )
    loss = next(metric for metric in run.metrics if metric.name == "validation_loss")
    return {
        "model": RUN,
        "tokens": len(data) * (data.length - 1),
        "loss": [loss.value, loss.lo, loss.hi],
        "parameters": load(folder, plan).describe()["parameters"],
    }


def load(folder: Path, plan: Mapping[str, Any]) -> Any:
    """The LanguageModel of a finished job.

    Args:
        folder: of the job that made or named it.
        plan: of the job that needs it; ``device`` says where it works.
    """
    from assay.subjects.language import load_language_model

    named = read_json(folder / RESULT)["model"] if (folder / RESULT).exists() else RUN
    return load_language_model(f"run:{folder / RUN}" if named == RUN else named, device=plan.get("device", "cpu"))


def vocabulary(plan: Mapping[str, Any]) -> Any:
    """What turns texts into ids where no model is needed: the vocabulary that the trained models have, or a named one.

    Returns:
        A function of texts that gives a list of ids for each, and the number of ids.
    """
    if "model" in plan:
        from assay.subjects.language import load_language_model

        lm = load_language_model(plan["model"])
        return lambda texts: [lm.encode(text) for text in texts], lm.vocab_size
    from assay.training.language.vocabulary import encode_all, learn_vocabulary

    made = learn_vocabulary(_corpus(plan, "train").texts, plan["recipe"]["vocab_size"])
    return lambda texts: encode_all(made, texts), made.get_vocab_size()


def pieces(ids: Sequence[Sequence[int]], length: int) -> list[list[int]]:
    """Pieces of so many ids, cut from documents that follow each other without a break."""
    stream = np.concatenate([np.asarray(text, dtype=np.int64) for text in ids])
    rows = len(stream) // length
    found: list[list[int]] = stream[: rows * length].reshape(rows, length).tolist()
    return found


def prompts(lm: Any, plan: Mapping[str, Any], seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of a seed, and how a person went on from each: texts that no model was trained on.

    ``prompt`` ids and ``new_tokens`` ids of held-out text are cut from all documents in a row, where a document alone
    is too short; with ``whole_documents`` each comes from the end of a document of its own. Seeds have different ones
    as long as there are any.

    Raises:
        DataError: there are too few documents.
    """
    first, new, count = plan["prompt"], plan["new_tokens"], plan["count"]
    texts = [text for source in plan["texts"] for text in documents(source, plan.get("part", "held-out"))]
    texts = texts[: plan.get("documents")]
    ids = [lm.encode(text) for text in texts]
    if plan.get("whole_documents"):
        cut = [text[-first - new :] for text in ids if len(text) >= first + new]
    else:
        cut = pieces(ids, first + new)
    if len(cut) < count:
        raise DataError(f"The texts hold {len(cut)} pieces of {first + new} ids; {count} prompts are needed.")
    order = np.random.default_rng(named_seed(0, "prompts")).permutation(len(cut))
    chosen = np.take(order, np.arange(seed * count, (seed + 1) * count), mode="wrap")
    opening = _opening(lm)
    return [[*opening, *cut[index][:-new]] for index in chosen], [cut[index][-new:] for index in chosen]


def training_tokens(plan: Mapping[str, Any]) -> int:
    """Tokens of the training texts, roughly: a token for four characters."""
    return sum(map(len, _corpus(plan, "train").texts)) // 4


def key(seed: int, *names: str | int) -> int:
    """The key of a seed: the public one for seed 0, others of 32 bits; with names, one more for each of them."""
    if seed == 0 and not names:
        return PUBLIC_KEY
    return named_seed(seed, "key", *names) % (2**32 - 1) + 1


def _opening(lm: Any) -> list[int]:
    """The ids that a model wants at the start of a text."""
    known: list[int] = lm.encode("a", prompt=True)
    return known[: len(known) - len(lm.encode("a"))]


def _corpus(plan: Mapping[str, Any], part: str) -> Any:
    from assay.data.texts.corpus import Corpus

    found = [text for source in plan["texts"] for text in documents(source, part)][: plan.get("documents")]
    return Corpus(
        name="texts",
        source=", ".join(plan["texts"]),
        split="train" if part == "train" else "test",
        texts=tuple(found),
        names=tuple(map(str, range(len(found)))),
    )
