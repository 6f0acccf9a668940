"""Settings of other implementations, taken over exactly: Hugging Face transformers and the official repository."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

from ..core.errors import SettingError, Unsupported, did_you_mean
from .settings import DEFAULT_KEY, WatermarkSettings, check_key, parse_scheme

_TRANSFORMERS = {
    "greenlist_ratio": 0.25,
    "bias": 2.0,
    "hashing_key": DEFAULT_KEY,
    "seeding_scheme": "lefthash",
    "context_width": 1,
}
_EDITIONS = {"extended": ("selfhash", 0.25), "minimal": ("simple_1", 0.5)}


def from_transformers(config: Any, vocab_size: int) -> tuple[WatermarkSettings, int]:
    """Settings and key of transformers' ``WatermarkingConfig``.

    Args:
        config: a ``WatermarkingConfig``, a ``GenerationConfig`` that holds one, or its values as a mapping; what a
            mapping lacks has transformers' default.
        vocab_size: ``model.config.vocab_size``.

    Returns:
        Settings of ``hf-lefthash`` or ``hf-selfhash``, and the key.

    Raises:
        Unsupported: it is another watermark, such as SynthID's.
        SettingError: unknown names, or values that are not allowed.

    >>> from_transformers({"bias": 2.5, "context_width": 4, "seeding_scheme": "selfhash"}, 50272)[0].scheme
    'hf-selfhash'
    """
    inner = getattr(config, "watermarking_config", None)
    config = config if inner is None else inner
    values = dict(config) if isinstance(config, Mapping) else dict(getattr(config, "__dict__", {}))
    if "sampling_table_size" in values or "ngram_len" in values or "Synth" in type(config).__name__:
        raise Unsupported(
            "This is a SynthID watermark, which has no green lists. Use transformers' own SynthID detector."
        )
    unknown = [name for name in values if name not in _TRANSFORMERS]
    if unknown or (not values and not isinstance(config, Mapping)):
        what = f"unknown name {str(unknown[0])[:40]!r}" if unknown else f"a {type(config).__name__}"
        raise SettingError(
            f"This is no WatermarkingConfig of transformers: {what}."
            + (did_you_mean(str(unknown[0])[:40], _TRANSFORMERS) if unknown else "")
        )
    values = _TRANSFORMERS | values
    if values["seeding_scheme"] not in ("lefthash", "selfhash"):
        raise SettingError(
            f"seeding_scheme is {str(values['seeding_scheme'])[:40]!r}; transformers has 'lefthash' and 'selfhash'."
        )
    return WatermarkSettings(
        scheme=f"hf-{values['seeding_scheme']}",
        vocab_size=vocab_size,
        gamma=values["greenlist_ratio"],
        delta=values["bias"],
        context_width=values["context_width"],
    ), check_key(values["hashing_key"])


def to_transformers(settings: WatermarkSettings, key: int) -> Any:
    """The ``WatermarkingConfig`` that marks exactly as these settings do. It holds the key.

    Raises:
        Unsupported: transformers has no such watermark.
        MissingExtra: transformers is not installed.
    """
    recipe = settings.recipe
    same_as_lefthash = recipe.prf == "additive_prf" and recipe.width == 1 and not recipe.self_salt
    family = "hf-lefthash" if same_as_lefthash else recipe.family
    others = {
        "payload": settings.payload is not None,
        "hard": settings.hard,
        "entropy_threshold": bool(settings.entropy_threshold),
        "select_green_tokens=False": not settings.select_green_tokens,
        "candidates": settings.candidates not in (None, 40),
    }
    lacking = [name for name, given in others.items() if given]
    if family not in ("hf-lefthash", "hf-selfhash") or lacking:
        what = ", ".join(lacking) if family in ("hf-lefthash", "hf-selfhash") else f"the scheme {settings.scheme!r}"
        raise Unsupported(
            f"transformers has no watermark with {what}. Use model.generate(..., logits_processor=[wm.processor()])."
        )
    from ..subjects.huggingface import require_transformers

    return require_transformers().WatermarkingConfig(
        greenlist_ratio=settings.gamma,
        bias=settings.delta,
        hashing_key=check_key(key),
        seeding_scheme=family.removeprefix("hf-"),
        context_width=settings.context_width or 1,
    )


def from_official(
    *,
    vocab: Sized | None = None,
    vocab_size: int | None = None,
    gamma: float | None = None,
    delta: float = 2.0,
    seeding_scheme: str | None = None,
    select_green_tokens: bool = True,
    hash_key: int | None = None,
    edition: str = "extended",
    generator_device: Any = "cpu",
) -> tuple[WatermarkSettings, int]:
    """Settings and key of the official repository's ``WatermarkLogitsProcessor`` and ``WatermarkDetector``.

    Text that the official code marked with its generator on CUDA holds the lists of another random stream (CUDA's own
    ``randperm``). They cannot be computed on a CPU; detect such text on such a device.

    Args:
        vocab: what the official class was given; only its length matters.
        vocab_size: that length, instead.
        gamma, seeding_scheme: None: the default of the edition, 0.25 and selfhash, or minimal 0.5 and simple_1.
        delta: added to green scores.
        select_green_tokens: False: the last tokens of a permutation are green.
        hash_key: None: the one in a freeform name, else 15485863.
        edition: ``"extended"`` (``extended_watermark_processor.py``) or ``"minimal"`` (``watermark_processor.py``).
        generator_device: where its random numbers came from; ``"cpu"`` alone can be reproduced.

    Raises:
        Unsupported: another device than the CPU.
        SettingError: no vocabulary, two that differ, or values that are not allowed.

    >>> from_official(vocab_size=50272)[0].scheme
    'selfhash'
    """
    device = str(generator_device).partition(":")[0]
    if device != "cpu":
        raise Unsupported(
            f"The text was marked with random numbers of {device[:20]!r}, a different stream: torch.randperm of a CUDA "
            "generator gives other green lists than that of a CPU, for the same seed. They cannot be reproduced here. "
            "Run the official detector on such a device, or mark with 'philox', which is the same everywhere."
        )
    if edition not in _EDITIONS:
        raise SettingError(f"edition is {edition!r}; there are 'extended' and 'minimal'.")
    scheme, share = _EDITIONS[edition]
    scheme = seeding_scheme or scheme
    if edition == "minimal" and scheme != "simple_1":
        raise SettingError(
            f"seeding_scheme is {parse_scheme(scheme)[0]!r}; the minimal edition has only 'simple_1'. "
            "Say edition='extended'."
        )
    size = len(vocab) if vocab is not None else vocab_size
    if size is None or (vocab_size is not None and vocab_size != size):
        found = "neither is given" if size is None else f"vocab has {size} entries, vocab_size is {vocab_size}"
        raise SettingError(f"The size of the vocabulary is needed, as vocab or vocab_size: {found}.")
    public, key = split_key(scheme, hash_key)
    return WatermarkSettings(
        scheme=public,
        vocab_size=size,
        gamma=share if gamma is None else gamma,
        delta=delta,
        select_green_tokens=select_green_tokens,
    ), key


def split_key(scheme: str, key: Any = None) -> tuple[str, int]:
    """A scheme's name without a key, and the key: the one given, else that in the name, else the public 15485863.

    Raises:
        SettingError: two keys that differ, or one that is not allowed. None is shown.

    >>> split_key("ff-minhash_prf-4-True-31")
    ('ff-minhash_prf-4-True', 31)
    """
    if not isinstance(scheme, str):
        raise SettingError(f"scheme is a {type(scheme).__name__}; the name of a scheme is needed, such as 'philox'.")
    public, _, inside = parse_scheme(scheme)
    if key is None:
        return public, check_key(DEFAULT_KEY if inside is None else inside)
    key = check_key(key)
    if inside is not None and inside != key:
        raise SettingError(f"The scheme's name {public!r} ends with a key, and another key is given; leave one out.")
    return public, key
