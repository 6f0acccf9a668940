"""One watermark: settings and key, to mark scores and to detect the mark."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError
from . import conversion
from .keyed import Keyed
from .settings import DEFAULT_KEY, WatermarkSettings, check_key

if TYPE_CHECKING:
    from torch import Tensor

    from .detection import Detection
    from .payload import Decoded
    from .schemes.base import Scheme
    from .windows import WindowDetection

_UNSET: Any = type("Public", (), {"__repr__": lambda self: str(DEFAULT_KEY)})()


class Watermark(Keyed):
    """A keyed mark for generated text.

    At every step the key and the last ids split the vocabulary into a green share gamma and the rest; green scores get
    +delta, and text that holds more green tokens than chance allows was marked. Nothing shows the key: not ``repr``,
    not errors, not ``settings``; pickling is refused.

    Args:
        scheme: ``"simple_1"``, ``"selfhash"``, ``"minhash"``, ``"skipgram"``, a freeform name of the official code
            (``"ff-anchored_minhash_prf-4-True"``, which may end with ``-<key>``), ``"hf-lefthash"``,
            ``"hf-selfhash"``, ``"unigram"``, ``"philox"`` or ``"gumbel"``.
        vocab_size: width V of the model's logits. With another one, nothing is detected.
        gamma: share of green tokens, between 0 and 1; lists have int(gamma V) tokens.
        delta: nats added to green scores.
        key: whole number from 1 to 2^64 - 1; the default is public. Official and hf schemes act on 32 bits of it.
        context_width: ids hashed before a token (hf-selfhash: with it); default 1 for hf-*, 4 for philox and gumbel.
        select_green_tokens: False: the last tokens of a permutation are green, a legacy of the official code.
        hard: forbid red tokens. A row in which no token would be left stays as it is.
        entropy_threshold: nats; steps of lower entropy are not marked.
        payload: number from 0 to 2^payload_bits - 1 carried by the mark: token t is green iff (t + payload) mod V is
            in the list.
        payload_bits: length of payloads; default 8 or fewer, as V allows, but as many as the payload has.
        candidates: likeliest tokens tested at a step by self-salted schemes; default 41, hf-selfhash 40. Of equal
            scores, those with the lowest ids are tested.

    Raises:
        SettingError: a value is not allowed, or two keys are given.

    Warns:
        WatermarkWarning: a key of more than 32 bits for a scheme that cannot use them.

    The permutations of official and hf schemes are those of torch's generator on a CPU, wherever the scores are. Text
    that other programs marked with a generator on CUDA carries other lists and cannot be detected.

    Citation: Kirchenbauer et al., A Watermark for Large Language Models, arXiv 2301.10226.

    >>> import torch
    >>> wm = Watermark("simple_1", vocab_size=10, gamma=0.5, delta=2.0, key=42)
    >>> wm.green_ids([1])
    array([1, 2, 4, 6, 8])
    >>> wm.bias(torch.tensor([[1]]), torch.zeros(1, 10)).tolist()
    [[0.0, 2.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0]]
    """

    def __init__(
        self,
        scheme: str = "philox",
        *,
        vocab_size: int,
        gamma: float = 0.25,
        delta: float = 2.0,
        key: int = _UNSET,
        context_width: int | None = None,
        select_green_tokens: bool = True,
        hard: bool = False,
        entropy_threshold: float | None = None,
        payload: int | None = None,
        payload_bits: int | None = None,
        candidates: int | None = None,
    ) -> None:
        public, number = conversion.split_key(scheme, None if key is _UNSET else check_key(key))
        self._take(
            WatermarkSettings(
                scheme=public,
                vocab_size=vocab_size,
                gamma=gamma,
                delta=delta,
                context_width=context_width,
                select_green_tokens=select_green_tokens,
                hard=hard,
                entropy_threshold=entropy_threshold,
                payload=payload,
                payload_bits=_bits(payload, vocab_size) if payload_bits is None else payload_bits,
                candidates=candidates,
            ),
            number,
        )

    def _take(self, settings: WatermarkSettings, key: int) -> None:
        self.settings = settings
        self.scheme: Scheme = settings.build(key)
        self._key = key

    @classmethod
    def from_settings(cls, settings: WatermarkSettings, *, key: int = _UNSET) -> Watermark:
        """The watermark of settings under a key; the default is public."""
        made = cls.__new__(cls)
        made._take(settings, DEFAULT_KEY if key is _UNSET else check_key(key))
        return made

    @classmethod
    def from_transformers(cls, config: Any, vocab_size: int) -> Watermark:
        """The watermark of transformers' ``WatermarkingConfig``; see :func:`.conversion.from_transformers`."""
        settings, key = conversion.from_transformers(config, vocab_size)
        return cls.from_settings(settings, key=key)

    @classmethod
    def from_official(cls, **arguments: Any) -> Watermark:
        """The watermark of the official repository's arguments; see :func:`.conversion.from_official`."""
        settings, key = conversion.from_official(**arguments)
        return cls.from_settings(settings, key=key)

    def to_transformers(self) -> Any:
        """The ``WatermarkingConfig`` that marks in the same way; it holds the key."""
        return conversion.to_transformers(self.settings, self._key)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the settings; the same for every key."""
        return self.settings.fingerprint

    def __repr__(self) -> str:
        spec = self.settings
        return (
            f"Watermark({spec.scheme!r}, vocab_size={spec.vocab_size}, gamma={spec.gamma:g}, delta={spec.delta:g}, "
            f"key=..., fingerprint={self.fingerprint!r})"
        )

    def green_ids(self, context_ids: Any) -> np.ndarray:
        """Tokens that are green after a context, payload included.

        Args:
            context_ids: ids [T], oldest first, of which the last ones are used; for a self-salted scheme the last id
                is the candidate, and the list is its own. gumbel: tokens whose score is above its median.

        Returns:
            int64, ascending.

        Raises:
            DataError: fewer ids than the scheme hashes, or ids outside the vocabulary.
        """
        from .ngrams import as_ids
        from .schemes.scores import shifted

        ids = as_ids(context_ids, name="context_ids")
        spec, width = self.settings, self.scheme.preceding + self.scheme.self_salt
        if len(ids) < width:
            raise DataError(
                f"The context has {len(ids)} ids, but {spec.scheme!r} hashes {width}. Give at least {width}."
            )
        outside = np.flatnonzero((ids < 0) | (ids >= spec.vocab_size))
        if len(outside):
            raise DataError(
                f"The id {int(ids[outside[0]])} at position {int(outside[0])} is outside the vocabulary "
                f"0..{spec.vocab_size - 1}."
            )
        row = self.scheme.rows(ids[len(ids) - width :].astype(np.int64).reshape(1, width))[0]
        return np.flatnonzero(shifted(row if row.dtype == bool else row > np.log(2), spec.shift))

    def bias(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of the next token with the mark; a new tensor, the given one is not changed.

        Args:
            input_ids: whole numbers [B, T]. Rows shorter than a context are not marked.
            scores: floating-point [B, V], any device; -inf stays -inf.

        Returns:
            [B, V] of the same dtype and device. gumbel: the token that is drawn is finite, all others -inf.

        Raises:
            ModelError: scores of another width than ``vocab_size``, or NaN. DataError: ids that are not allowed.

        Cost: see the scheme's file.
        """
        from .marking import mark_scores

        return mark_scores(self.scheme, input_ids, scores)

    def processor(
        self,
        pad_token_id: int | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Any:
        """A logits processor: ``model.generate(..., logits_processor=[wm.processor()])``.

        transformers applies it before temperature, top-k and top-p, and its own watermark after them: with sampling,
        the same delta weighs as delta / temperature here.

        Args:
            pad_token_id: id that fills prompts on the left; contexts never reach into it.
            temperature, top_k, top_p: gumbel only, which draws the token itself: the distribution it draws from.

        Returns:
            transformers' ``LogitsProcessor``, stateless; any batch, beams, sampling.
        """
        from .processor import make_processor

        return make_processor(self.scheme, pad_token_id, temperature=temperature, top_k=top_k, top_p=top_p)

    def detect(
        self,
        ids: Any,
        unique_ngrams: bool = True,
        strict: bool | None = None,
        entropies: Any = None,
        weights: Any = None,
        entropy_threshold: float | None = None,
    ) -> Detection:
        """Evidence for this mark in one text; see :func:`.detection.detect`."""
        from .detection import detect

        return detect(
            self.scheme,
            ids,
            unique_ngrams=unique_ngrams,
            strict=strict,
            entropies=entropies,
            weights=weights,
            entropy_threshold=entropy_threshold,
        )

    def detect_many(
        self,
        texts: Iterable[Any],
        unique_ngrams: bool = True,
        strict: bool | None = None,
        entropies: Iterable[Any] | None = None,
        weights: Iterable[Any] | None = None,
        entropy_threshold: float | None = None,
    ) -> list[Detection]:
        """Evidence in any number of texts of any lengths; see :func:`.detection.detect_many`."""
        from .detection import detect_many

        return detect_many(
            self.scheme,
            texts,
            unique_ngrams=unique_ngrams,
            strict=strict,
            entropies=entropies,
            weights=weights,
            entropy_threshold=entropy_threshold,
        )

    def detect_windows(
        self,
        ids: Any,
        sizes: str | int | Iterable[int] = "max",
        *,
        unique_ngrams: bool = True,
        strict: bool | None = None,
    ) -> WindowDetection:
        """The strongest passage of a text, with a calibrated p-value; see :func:`.windows.detect_windows`."""
        from .windows import detect_windows

        return detect_windows(self.scheme, ids, sizes, unique_ngrams=unique_ngrams, strict=strict)

    def decode(
        self, ids: Any, *, bits: int | None = None, unique_ngrams: bool = True, strict: bool | None = None
    ) -> Decoded:
        """The payload of a text, of ``bits`` bits (default: those of the settings); see :func:`.payload.decode`."""
        from .payload import decode

        bits = self.settings.payload_bits if bits is None else bits
        return decode(self.scheme, ids, bits=bits, unique_ngrams=unique_ngrams, strict=strict)


def _bits(payload: Any, vocab_size: Any) -> int:
    """Bits of payloads where none are given: a vocabulary has only as many messages as shifts."""
    most = vocab_size.bit_length() - 1 if isinstance(vocab_size, int) else 8
    return max(min(8, most), payload.bit_length() if isinstance(payload, int) else 1, 1)
