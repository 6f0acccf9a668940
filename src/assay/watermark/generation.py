"""Text from a language model, marked or not: every prompt goes on in the same way, whatever else is in its batch.

Sampling is an argmax: with Gumbel noise g_v = -log(-log u_v), argmax_v (z_v + g_v) is a draw from softmax(z). The
noise is named by the prompt and the position, so that it belongs to the text and not to the batch.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import DataError, SettingError
from ..core.progress import Progress, Task
from ..core.seeds import seed as named_seed
from ..core.settings import option, settings
from ..subjects.huggingface import quietly, require_transformers
from ..subjects.language import LanguageModel
from ..tensors.random import bits

if TYPE_CHECKING:
    from .watermark import Watermark

DECODINGS = ("multinomial", "greedy", "beam")


@settings
class Decoding:
    """How tokens are chosen."""

    new_tokens: int = option(default=200, help="tokens to generate for each prompt", at_least=1)
    decoding: str = option(
        default="multinomial", help="draw, take the likeliest, or search by beams", choices=DECODINGS
    )
    temperature: float = option(default=1.0, help="logits are divided by it; only where tokens are drawn", above=0)
    top_k: int = option(default=0, help="draw from the k likeliest tokens; 0: all", at_least=0)
    top_p: float = option(default=1.0, help="draw from the likeliest tokens with this mass", above=0, at_most=1)
    beams: int = option(default=8, help="beams of a beam search", at_least=2)
    seed: int = option(default=0, help="root of the random streams")
    batch_size: int = option(default=16, help="prompts at once; the texts do not depend on it", at_least=1)

    def __post_init__(self) -> None:
        warped = (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0)
        if warped and self.decoding != "multinomial":
            raise SettingError(
                f"temperature, top_k and top_p are {self.temperature:g}, {self.top_k} and {self.top_p:g}, which matter "
                f"only where tokens are drawn, but decoding is {self.decoding!r}. Leave them out, or use 'multinomial'."
            )


def generate(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    watermark: Watermark | None = None,
    *,
    new_tokens: int = 200,
    decoding: str = "multinomial",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    beams: int = 8,
    seed: int = 0,
    batch_size: int = 16,
    names: Sequence[str | int] | None = None,
    stop: int | None = None,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Continue prompts, with a watermark or without.

    The mark is put onto the logits first; then temperature, top-k and top-p act on the marked logits, in this order,
    as in transformers. A prompt's text is a function of prompt, settings and its name, and not of the batch, ties of
    floating-point numbers aside.

    Args:
        lm: the model.
        prompts: ids of each prompt, at least one; ``lm.encode(text, prompt=True)``.
        watermark: the mark; its vocabulary is the width of the model's logits. None: plain text.
        new_tokens: tokens generated for each prompt.
        decoding: ``"multinomial"``, ``"greedy"`` or ``"beam"``.
        temperature, top_k, top_p: which distribution is drawn from; only for ``"multinomial"``.
        beams: number of beams, only for ``"beam"``.
        seed: root of the random streams.
        batch_size: prompts at once.
        names: what each prompt's random stream is called. Default: its ids, and how often they came before, so that
            a prompt given twice has two texts.
        stop: id at which a text ends early; it is not part of the text. None: the ids that end texts are never
            generated, and every text has ``new_tokens`` tokens.
        progress: where progress is shown; nowhere by default.

    Returns:
        The new ids of each prompt, in the order given.

    Raises:
        SettingError: settings that are not allowed.
        DataError: an empty prompt, ids outside the vocabulary, or more positions than the model has.

    Cost: ``new_tokens`` forward passes of one token a prompt, times ``beams`` in a beam search.
    """
    how = Decoding(
        new_tokens=new_tokens,
        decoding=decoding,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        beams=beams,
        seed=seed,
        batch_size=batch_size,
    )
    texts = [_checked(lm, prompt, number, how.new_tokens) for number, prompt in enumerate(prompts)]
    called = _stream_names(texts) if names is None else list(names)
    if len(called) != len(texts):
        raise SettingError(f"names has {len(called)} entries for {len(texts)} prompts; one a prompt is needed.")
    if _draws(watermark) and how.decoding != "multinomial":
        raise SettingError(
            f"decoding is {how.decoding!r}, but the Gumbel watermark chooses every token itself, by a draw. Use "
            "'multinomial', or a watermark of another scheme."
        )
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: list[list[int]] = [[] for _ in texts]
    with (progress or Progress(enabled=False)).task("generating", total=len(texts) * how.new_tokens) as task:
        for first in range(0, len(order), how.batch_size):
            places = order[first : first + how.batch_size]
            seeds = [named_seed(how.seed, "generate", called[place]) for place in places]
            before = task.completed
            answers = _batch(lm, [texts[place] for place in places], seeds, watermark, how, stop, task)
            task.advance(len(places) * how.new_tokens - (task.completed - before))
            for place, ids in zip(places, answers, strict=True):
                found[place] = ids
    return found


def _batch(
    lm: LanguageModel,
    texts: list[list[int]],
    seeds: list[int],
    watermark: Watermark | None,
    how: Decoding,
    stop: int | None,
    task: Task,
) -> list[list[int]]:
    """One call of the model's own ``generate``, on prompts padded at their left."""
    transformers = require_transformers()
    width = max(map(len, texts))
    pad = _padding(lm, texts)
    ids = torch.full((len(texts), width), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, text in enumerate(texts):
        ids[place, width - len(text) :] = torch.tensor(text)
        mask[place, width - len(text) :] = 1
    forbidden = [token for token in lm.stops if token < lm.vocab_size and stop is None]
    steps = [*_processors(watermark, how, pad, seeds, width), _Tick(task, len(texts))]
    chain = transformers.LogitsProcessorList([_Forbid(forbidden), *steps] if forbidden else steps)
    config = transformers.GenerationConfig(
        max_new_tokens=how.new_tokens,
        do_sample=False,
        num_beams=how.beams if how.decoding == "beam" else 1,
        pad_token_id=pad,
        eos_token_id=stop,
        use_cache=True,
    )
    with quietly(transformers), torch.no_grad():
        answer = _neutral(lm.model, transformers).generate(
            input_ids=ids.to(lm.device),
            attention_mask=mask.to(lm.device),
            generation_config=config,
            logits_processor=chain,
        )
    return [_cut(row, stop) for row in answer[:, width:].tolist()]


def _processors(watermark: Watermark | None, how: Decoding, pad: int, seeds: list[int], width: int) -> Iterator[Any]:
    """The mark, then the warpers, then the noise; a mark that draws tokens itself needs the warpers inside.

    Noise does not change a token that was drawn, whose score alone is finite; it draws where there was no mark, for
    want of context.
    """
    if watermark is not None and _draws(watermark):
        yield watermark.processor(pad_token_id=pad, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p)
        yield _Noise(seeds, width)
        return
    if watermark is not None:
        yield watermark.processor(pad_token_id=pad)
    if how.decoding != "multinomial":
        return
    transformers = require_transformers()
    if how.temperature != 1:
        yield transformers.TemperatureLogitsWarper(how.temperature)
    if how.top_k:
        yield transformers.TopKLogitsWarper(how.top_k)
    if how.top_p < 1:
        yield transformers.TopPLogitsWarper(how.top_p)
    yield _Noise(seeds, width)


def _draws(watermark: Watermark | None) -> bool:
    return watermark is not None and watermark.scheme.null == "exponential"


class _Noise:
    """Adds Gumbel noise, which greedy search turns into draws.

    Args:
        seeds: the random stream of each row.
        width: ids of the padded prompts; the position in the new text is counted from there.
    """

    def __init__(self, seeds: list[int], width: int) -> None:
        self.seeds, self.width = torch.tensor(seeds, dtype=torch.int64), width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        words = bits(self.seeds.to(scores.device), scores.shape[1], input_ids.shape[1] - self.width)
        return scores.float() + gumbel(words)


def gumbel(words: Tensor) -> Tensor:
    """Standard Gumbel numbers from words of 64 random bits: -log(-log(1 - u)), u from the 40 highest bits, float32.

    1 - u in the place of u keeps the long tail fine-grained: u is small there, and small numbers are dense.
    """
    high = (words >> 24) & ((1 << 40) - 1)
    u = ((high.to(torch.float32) + 0.5) * 2.0**-40).clamp_(max=1 - 2.0**-24)
    return u.neg_().log1p_().neg_().log_().neg_()


class _Forbid:
    """Sets tokens to -inf, so that they are never chosen."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, self.tokens] = -torch.inf
        return scores


class _Tick:
    """Shows progress; scores pass as they are."""

    def __init__(self, task: Task, prompts: int) -> None:
        self.task, self.prompts = task, prompts

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.task.advance(self.prompts)
        return scores


def _neutral(model: Any, transformers: Any) -> Any:
    """The same model without generation settings of its own, such as a penalty, which would act unasked.

    The weights are shared, and the caller's model keeps its settings.
    """
    view = copy.copy(model)
    kept = getattr(model.generation_config, "cache_implementation", None)
    view.generation_config = transformers.GenerationConfig(cache_implementation=kept)
    return view


def _padding(lm: LanguageModel, texts: list[list[int]]) -> int:
    """An id to pad with that no prompt begins with, so that padding is told from text."""
    taken = {text[0] for text in texts}
    own = getattr(lm.tokenizer, "pad_token_id", None)
    usual = [own] if own is not None and own < lm.vocab_size else []
    return next((token for token in (*usual, *lm.stops, *range(lm.vocab_size)) if token not in taken), 0)


def _cut(ids: list[int], stop: int | None) -> list[int]:
    return ids[: ids.index(stop)] if stop in ids else ids


def _checked(lm: LanguageModel, prompt: Sequence[int], number: int, new_tokens: int) -> list[int]:
    text = lm.check_ids(prompt, f"prompt {number}")
    if not text:
        raise DataError(
            f"Prompt {number} is empty; at least one id is needed, such as that of lm.encode('', prompt=True)."
        )
    if lm.context is not None and len(text) + new_tokens > lm.context:
        raise DataError(
            f"Prompt {number} has {len(text)} ids, and {new_tokens} new tokens make {len(text) + new_tokens}, but the "
            f"model {lm.name!r} has {lm.context} positions. Shorten the prompt to {max(0, lm.context - new_tokens)} "
            "ids, or generate fewer tokens."
        )
    return text


def _stream_names(texts: list[list[int]]) -> list[str]:
    """The ids of each prompt and how often they came before, as a name."""
    seen: Counter[str] = Counter()
    names = []
    for text in texts:
        digest = hashlib.blake2b(repr(text).encode(), digest_size=16).hexdigest()
        names.append(f"{digest}/{seen[digest]}")
        seen[digest] += 1
    return names
