"""Perplexity of texts under an oracle: what a mark costs in quality, as another model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import DataError
from ..core.estimates import Estimate, bootstrap
from ..core.progress import Progress
from ..subjects.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """What an oracle thinks of texts.

    Args:
        losses: mean -log p of a token, one a text [N], in nats; NaN for a text without a token to score.
        tokens: tokens scored, one a text [N].
        mean: of exp(losses), with an interval over texts; the figure that papers print.
        corpus: exp of the mean loss of all tokens together, with an interval over texts; rare texts weigh less.
    """

    losses: np.ndarray
    tokens: np.ndarray
    mean: Estimate
    corpus: Estimate

    @property
    def values(self) -> np.ndarray:
        """Perplexity of each text [N]."""
        values: np.ndarray = np.exp(self.losses)
        return values


def perplexity(
    oracle: LanguageModel,
    texts: Sequence[str | Sequence[int]],
    prompts: Sequence[str | Sequence[int]] | None = None,
    *,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Perplexity:
    """exp(-1/T Σ_t log p(x_t | prompt, x_<t)) of each text under an oracle, usually a larger model.

    Args:
        oracle: the model that judges.
        texts: text, which the oracle's own tokenizer encodes, or ids of the oracle.
        prompts: what came before each text, likewise; it is read and not scored. Without prompts the first token of
            a text is not scored.
        batch_size: texts at once, at most.
        seed: of the bootstrap.
        progress: where progress is shown; nowhere by default.

    Raises:
        DataError: no text has a token to score, the numbers of texts and prompts differ, or ids that the oracle does
            not have.

    Cost: 1 forward pass a token.

    Source: the measure of Section 6 of Kirchenbauer et al., arXiv 2301.10226.
    """
    if prompts is not None and len(prompts) != len(texts):
        raise DataError(f"There are {len(prompts)} prompts for {len(texts)} texts; one a text is needed.")
    bodies = [_ids(oracle, text) for text in texts]
    openings = [_ids(oracle, prompt, prompt=True) for prompt in prompts] if prompts is not None else [[]] * len(bodies)
    whole = [[*opening, *body] for opening, body in zip(openings, bodies, strict=True)]
    found = oracle.losses(whole, batch_size=batch_size, progress=progress)
    scored = [loss[max(0, len(opening) - 1) :] for loss, opening in zip(found, openings, strict=True)]
    tokens = np.array([len(loss) for loss in scored], dtype=np.int64)
    sums = np.array([float(loss.sum(dtype=np.float64)) for loss in scored])
    kept = tokens > 0
    if not kept.any():
        raise DataError(
            f"None of the {len(texts)} texts has a token to score; a text needs two tokens, or a prompt and one."
        )
    losses = np.divide(sums, tokens, out=np.full(len(tokens), np.nan), where=kept)
    return Perplexity(
        losses=losses,
        tokens=tokens,
        mean=bootstrap(np.exp(losses[kept]), seed=seed),
        corpus=bootstrap(np.stack([sums[kept], tokens[kept]], 1), _corpus_perplexity, seed=seed),
    )


def _ids(oracle: LanguageModel, text: str | Sequence[int], *, prompt: bool = False) -> list[int]:
    return oracle.encode(text, prompt=prompt) if isinstance(text, str) else [int(token) for token in text]


def _corpus_perplexity(rows: np.ndarray) -> float:
    total, tokens = rows.sum(0)
    return float(np.exp(total / tokens))
