"""Marking the scores of one step: what is checked, and which rows are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import DataError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from .schemes.base import Scheme


def mark_scores(scheme: Scheme, input_ids: Tensor, scores: Tensor, *, pad_token_id: int | None = None) -> Tensor:
    """Scores of the next token with the mark; a new tensor.

    A row stays as it is where it has too few ids for a context, where that context would reach into padding on the
    left, and where the entropy of its softmax is below ``entropy_threshold``.

    Args:
        scheme: whose mark it is.
        input_ids: whole numbers [B, T]: the prompt and what was generated.
        scores: floating-point [B, V].
        pad_token_id: id that fills rows on the left; None: rows are not padded.

    Raises:
        ModelError: scores of another width than the vocabulary, no floating-point numbers, or NaN.
        DataError: ids that are no whole numbers, of another number of rows, or outside the vocabulary.
    """
    check_scores(scores, scheme.settings.vocab_size)
    check_rows(input_ids, len(scores))
    if input_ids.shape[1] < scheme.least or not len(scores):
        return scores.detach().clone()
    marked = _with_context(input_ids, scheme.least, pad_token_id)
    threshold = scheme.settings.entropy_threshold
    if threshold:
        certain = entropy(scores) < threshold
        marked = ~certain if marked is None else marked & ~certain.to(marked.device)
    if marked is None or bool(marked.all()):
        _check_ids(input_ids, scheme)
        return scheme.bias(input_ids, scores)
    result = scores.detach().clone()
    if bool(marked.any()):
        some = input_ids[marked.to(input_ids.device)]
        _check_ids(some, scheme)
        places = marked.to(scores.device)
        result[places] = scheme.bias(some, scores[places])
    return result


def check_scores(scores: Any, vocab_size: int) -> None:
    """Scores are [B, V] floating-point numbers, V the mark's vocabulary, none of them NaN."""
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2 or not scores.dtype.is_floating_point:
        what = f"{scores.dtype} of shape {list(scores.shape)}" if isinstance(scores, torch.Tensor) else type(scores)
        raise ModelError(f"Scores are {what}; a floating-point tensor [batch, vocabulary] is needed.")
    if scores.shape[1] != vocab_size:
        raise ModelError(
            f"The model gives {scores.shape[1]} scores a token, but the watermark's vocab_size is {vocab_size}. Green "
            "lists of two sizes have nothing in common, and text marked with one cannot be detected with the other: "
            f"make the watermark with vocab_size={scores.shape[1]}, here and at detection. (The length of a tokenizer "
            "often differs from the width of the logits; the latter counts.)"
        )
    # One number tells whether a NaN can be among them; infinities of both signs make one too.
    if bool(torch.isnan(scores.detach().sum())) and bool(torch.isnan(scores).any()):
        row, token = torch.isnan(scores).nonzero()[0].tolist()
        raise ModelError(
            f"The score of token {token} in row {row} is NaN: the model computes no probabilities. Check its weights "
            "and its precision (float16 overflows where bfloat16 does not)."
        )


def check_rows(input_ids: Any, rows: int) -> None:
    """Ids are whole numbers [B, T], a row for every row of scores."""
    if not isinstance(input_ids, torch.Tensor) or input_ids.ndim != 2 or input_ids.dtype.is_floating_point:
        known = isinstance(input_ids, torch.Tensor)
        what = f"{input_ids.dtype} of shape {list(input_ids.shape)}" if known else type(input_ids)
        raise DataError(f"input_ids are {what}; a tensor [batch, length] of whole numbers is needed.")
    if len(input_ids) != rows:
        raise DataError(f"input_ids have {len(input_ids)} rows, scores {rows}; the same number is needed.")


def entropy(scores: Tensor) -> Tensor:
    """Shannon entropy of the softmax of every row, in nats, computed in float32 or better: [B]."""
    wide = scores.detach().to(torch.promote_types(scores.dtype, torch.float32))
    return torch.special.entr(torch.softmax(wide, dim=1)).sum(dim=1)


def _with_context(input_ids: Tensor, least: int, pad_token_id: int | None) -> Tensor | None:
    """Rows whose last ``least`` ids are all behind the padding: bool [B]; None: all of them."""
    if pad_token_id is None or not least:
        return None
    first = input_ids.shape[1] - least
    if not bool((input_ids[:, first] == pad_token_id).any()):
        return None
    # The run of padding from the left edge ends before the first id that is needed.
    return (input_ids[:, : first + 1] != pad_token_id).any(dim=1)


def _check_ids(input_ids: Tensor, scheme: Scheme) -> None:
    """Ids of the contexts lie in the vocabulary; not asked of other devices, whose answer would have to be awaited."""
    size, first = scheme.settings.vocab_size, input_ids.shape[1] - scheme.preceding
    needed = input_ids[:, first:]
    if needed.device.type != "cpu" or not needed.numel():
        return
    if int(needed.min()) < 0 or int(needed.max()) >= size:
        row, place = ((needed < 0) | (needed >= size)).nonzero()[0].tolist()
        raise DataError(
            f"The id {int(needed[row, place])} at position {first + place} of row {row} is outside the vocabulary "
            f"0..{size - 1} of the watermark. Placeholders must be replaced by ids before the scores are marked."
        )
