"""A watermark as a logits processor of Hugging Face transformers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import MissingExtra, SettingError
from ..core.settings import option, settings
from ..subjects.huggingface import require_transformers
from .keyed import Keyed
from .marking import check_scores, mark_scores
from .schemes.base import EXPONENTIAL

if TYPE_CHECKING:
    from torch import Tensor

    from .schemes.base import Scheme


@settings
class Sampling:
    """Which distribution the gumbel scheme draws from; transformers' own warpers come too late for it."""

    temperature: float = option(default=1.0, help="logits are divided by it", above=0)
    top_k: int = option(default=0, help="draw from the k likeliest tokens; 0: all", at_least=0)
    top_p: float = option(default=1.0, help="draw from the likeliest tokens with this mass", above=0, at_most=1)

    def filtered(self, scores: Tensor) -> Tensor:
        """Scores divided by the temperature, and -inf for tokens that may not be drawn; at least one token stays.

        Args:
            scores: [B, V].

        Returns:
            [B, V] in float32 or better.

        >>> import torch
        >>> Sampling(top_k=2).filtered(torch.tensor([[1.0, 3.0, 2.0]])).tolist()
        [[-inf, 3.0, 2.0]]
        """
        out = scores.detach().to(torch.promote_types(scores.dtype, torch.float32)) / self.temperature
        if 0 < self.top_k < out.shape[1]:
            limit = out.topk(self.top_k, dim=1).values[:, -1:]
            out = out.masked_fill(out < limit, float("-inf"))
        if self.top_p < 1:
            ordered, ids = out.sort(dim=1, descending=True, stable=True)
            mass = torch.softmax(ordered, dim=1)
            unneeded = mass.cumsum(dim=1) - mass >= self.top_p
            unneeded[:, 0] = False
            out = out.masked_fill(torch.zeros_like(unneeded).scatter_(1, ids, unneeded), float("-inf"))
        return out


class Marker(Keyed):
    """Callable ``(input_ids [B, T], scores [B, V]) -> scores``; it holds no state between steps."""

    def __init__(self, scheme: Scheme, pad_token_id: int | None, sampling: Sampling | None) -> None:
        self.scheme = scheme
        self.pad_token_id = pad_token_id
        self.sampling = sampling

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with the mark, a new tensor; rows without enough context, or padding in it, stay as they are."""
        given = scores
        if self.sampling is not None:
            check_scores(scores, self.scheme.settings.vocab_size)
            scores = self.sampling.filtered(scores)
        return mark_scores(self.scheme, input_ids, scores, pad_token_id=self.pad_token_id).to(given.dtype)

    def __repr__(self) -> str:
        return f"WatermarkProcessor({self.scheme.settings.scheme!r})"


def make_processor(
    scheme: Scheme,
    pad_token_id: int | None = None,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Any:
    """A processor for ``model.generate(..., logits_processor=[...])``.

    Args:
        scheme: whose mark it is.
        pad_token_id: id that fills prompts on the left; contexts never reach into it.
        temperature, top_k, top_p: gumbel only.

    Returns:
        An instance of transformers' ``LogitsProcessor``, or the same callable where transformers is not installed.

    Raises:
        SettingError: sampling is given for a scheme that does not sample, or a value is not allowed.
    """
    if pad_token_id is not None and (isinstance(pad_token_id, bool) or not isinstance(pad_token_id, int)):
        raise SettingError(
            f"pad_token_id is {pad_token_id!r}; one id is needed, such as tokenizer.pad_token_id, or None."
        )
    named = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if scheme.null != EXPONENTIAL:
        if given:
            raise SettingError(
                f"{', '.join(given)}: only 'gumbel' draws tokens itself. For {scheme.settings.scheme!r}, give them to "
                "model.generate."
            )
        return _class()(scheme, pad_token_id, None)
    return _class()(scheme, pad_token_id, Sampling(**given) if given else None)


@functools.lru_cache(maxsize=1)
def _class() -> type[Marker]:
    """``Marker``, as a subclass of transformers' LogitsProcessor where it can be imported."""
    try:
        base = require_transformers().LogitsProcessor
    except (MissingExtra, ImportError, RuntimeError):
        return Marker
    return type("WatermarkProcessor", (Marker, base), {"__doc__": Marker.__doc__, "__module__": __name__})
