"""Settings of a watermark: which scheme, over which vocabulary, how strong. The key is never among them."""

from __future__ import annotations

import hashlib
import json
import operator
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError, SettingError, did_you_mean
from ..core.settings import as_dict, build, option, settings

if TYPE_CHECKING:
    from .schemes.base import Scheme

SCHEMA = 1
DEFAULT_KEY = 15485863
PRFS = (
    "multiplicative_prf",
    "additive_prf",
    "minfunc_prf",
    "simple_skip_prf",
    "skipgram_prf",
    "anchored_skipgram_prf",
    "minhash_prf",
    "anchored_minhash_prf",
    "minskipgram_prf",
    "noncomm_prf",
    "position_prf",
)
WIDEST = 1024
_FREEFORM = "ff-<prf>_prf-<h>-<True or False>, such as ff-anchored_minhash_prf-4-True"


class WatermarkWarning(UserWarning):
    """A watermark works, but not as its user may think."""


@dataclass(frozen=True)
class Recipe:
    """What a scheme's name stands for.

    Args:
        family: ``kgw``, ``hf-lefthash``, ``hf-selfhash``, ``unigram``, ``philox`` or ``gumbel``.
        width: ids that are hashed, the token's own included if ``self_salt``; None: ``context_width`` says it.
        self_salt: whether the token itself is hashed.
        prf: the official function that makes a seed of the ids; ``kgw`` only.
    """

    family: str
    width: int | None = None
    self_salt: bool = False
    prf: str = ""


NAMED = {
    "simple_1": Recipe("kgw", 1, False, "additive_prf"),
    "lefthash": Recipe("kgw", 1, False, "additive_prf"),
    "selfhash": Recipe("kgw", 4, True, "anchored_minhash_prf"),
    "algorithm-3": Recipe("kgw", 4, True, "anchored_minhash_prf"),
    "minhash": Recipe("kgw", 4, False, "minhash_prf"),
    "skipgram": Recipe("kgw", 5, False, "skipgram_prf"),
    "hf-lefthash": Recipe("hf-lefthash"),
    "hf-selfhash": Recipe("hf-selfhash", None, True),
    "unigram": Recipe("unigram", 0),
    "philox": Recipe("philox"),
    "gumbel": Recipe("gumbel"),
}
_WIDTHS = {"hf-lefthash": 1, "hf-selfhash": 1, "philox": 4, "gumbel": 4}
_CANDIDATES = {"kgw": 41, "hf-selfhash": 40}


def parse_scheme(name: str) -> tuple[str, Recipe, int | None]:
    """Take a scheme's name apart: the name without a key, what it stands for, the key it ends with or None.

    Raises:
        SettingError: there is no such scheme. What may be a key is not shown.

    >>> parse_scheme("ff-minhash_prf-4-True-31")[0]
    'ff-minhash_prf-4-True'
    >>> parse_scheme("selfhash")[1].width
    4
    """
    if not name.startswith("ff-"):
        if name not in NAMED:
            raise SettingError(
                f"There is no watermark scheme {_shown(name)!r}.{did_you_mean(_shown(name), NAMED)} "
                f"Freeform names are written {_FREEFORM}."
            )
        return name, NAMED[name], None
    fields = name.split("-")
    public = "-".join(fields[:4])
    if len(fields) not in (4, 5) or not all(fields):
        raise SettingError(
            f"A freeform scheme has 3 or 4 parts after 'ff', not {len(fields) - 1}: {_FREEFORM}[-<key>]."
        )
    prf, width, flag = fields[1:4]
    start = _shown("-".join(fields[:3]))  # what comes later may be a key in the wrong place
    if prf not in PRFS:
        raise SettingError(f"Scheme {start!r}: there is no PRF {_shown(prf)!r}.{did_you_mean(_shown(prf), PRFS)}")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", width) or int(width) > WIDEST:
        raise SettingError(f"Scheme {start!r}: the width {_shown(width)!r} must be a whole number from 1 to {WIDEST}.")
    if flag not in ("True", "False"):
        raise SettingError(f"Scheme {start!r}: what follows the width must be True or False.")
    if prf == "minskipgram_prf" and width == "1":
        raise SettingError(f"Scheme {public!r}: minskipgram hashes pairs of ids; its width must be 2 or more.")
    key = None
    if len(fields) == 5:
        if not re.fullmatch(r"[0-9]{1,40}", fields[4]):
            raise SettingError(f"Scheme {public!r}: what follows the last '-' must be a key, a whole decimal number.")
        key = int(fields[4])
    return public, Recipe("kgw", int(width), flag == "True", prf), key


def _shown(word: str) -> str:
    """A word for an error: shortened, and long numbers, which may be keys, blotted out."""
    return re.sub(r"[0-9]{3,}", "…", word[:60])


def check_key(key: Any) -> int:
    """A key as an int; errors never show it.

    Args:
        key: whole number from 1 to 2^64 - 1.

    Raises:
        SettingError: it is no whole number, or not in that range.
    """
    try:
        if isinstance(key, (bool, str, bytes)):
            raise TypeError
        value = operator.index(key)
    except TypeError:
        raise SettingError(
            f"The key is no whole number but {type(key).__name__!r}; allowed: 1 to 2^64 - 1. "
            "Read one from a file with assay.watermark.keys.read_key."
        ) from None
    if value < 1 or value >= 2**64:
        what = "0" if value == 0 else "negative" if value < 0 else "longer than 64 bits"
        raise SettingError(f"The key is {what}; allowed: whole numbers from 1 to 2^64 - 1.")
    return value


@settings
class WatermarkSettings:
    """Everything that two parties must agree on besides the key; None is replaced by the scheme's own value."""

    scheme: str = option(default="philox", help="simple_1, selfhash, ..., ff-<prf>_prf-<h>-<True or False>, or philox")
    vocab_size: int = option(
        default=0, help="width of the model's logits; always needed", at_least=0, at_most=2**31 - 1
    )
    gamma: float = option(default=0.25, help="share of green tokens", above=0, below=1)
    delta: float = option(default=2.0, help="added to the logits of green tokens", at_least=0, unit="nats")
    context_width: int | None = option(
        default=None, help="ids hashed before a token: hf-*, philox and gumbel", at_least=1, at_most=WIDEST
    )
    select_green_tokens: bool = option(default=True, help="false: the last tokens of a permutation are green (legacy)")
    hard: bool = option(default=False, help="forbid red tokens instead of favouring green ones")
    entropy_threshold: float | None = option(
        default=None, help="steps whose entropy is below it are not marked", at_least=0, unit="nats"
    )
    payload: int | None = option(default=None, help="number carried by the mark", at_least=0)
    payload_bits: int = option(default=8, help="length of a payload", at_least=1, at_most=24, unit="bits")
    candidates: int | None = option(
        default=None, help="most likely tokens tested at a step: self-salted schemes", at_least=1
    )

    def __post_init__(self) -> None:
        name, recipe, key = parse_scheme(self.scheme)
        if key is not None:
            raise SettingError(
                f"Settings hold no key, and the scheme's name ends with one. Write {name!r} and give the key apart."
            )
        family, width, limit = recipe.family, recipe.width, _CANDIDATES.get(recipe.family)
        if width is None:
            width = self.context_width or _WIDTHS[family]
        elif self.context_width not in (None, width):
            raise SettingError(
                f"context_width is {self.context_width}, but {name!r} always hashes {width} ids. Leave it out, or name "
                f"a width in the scheme: {_FREEFORM}."
            )
        object.__setattr__(self, "context_width", width or None)
        if recipe.self_salt:
            object.__setattr__(self, "candidates", self.candidates or limit)
        elif self.candidates is not None:
            raise SettingError(
                f"candidates is {self.candidates}, but {name!r} marks the whole vocabulary; leave it out."
            )
        if not self.select_green_tokens and family != "kgw":
            raise SettingError(f"select_green_tokens=False is a legacy of the official schemes; {name!r} has none.")
        if self.delta == float("inf"):
            raise SettingError("delta is infinite; hard=True forbids red tokens.")
        if family == "gumbel" and self.hard:
            raise SettingError("hard is for schemes with green lists; 'gumbel' chooses every token by the key anyway.")
        if self.payload is not None and self.payload >= 2**self.payload_bits:
            raise SettingError(
                f"payload is {self.payload}; {self.payload_bits} payload_bits hold 0 to {2**self.payload_bits - 1}."
            )
        if self.vocab_size:
            self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        size = self.vocab_size
        if size < 2:
            raise SettingError(f"vocab_size is {size}; at least 2 tokens are needed.")
        if self.recipe.family not in ("philox", "gumbel") and not 0 < self.green_size < size:
            raise SettingError(
                f"gamma {self.gamma:g} of {size} tokens makes {self.green_size} green; at least 1 and at most "
                f"{size - 1} are needed. Choose another gamma."
            )
        if self.payload is not None and 2**self.payload_bits > size:
            raise SettingError(
                f"payload_bits is {self.payload_bits}: more messages than the {size} tokens can be shifted by. "
                f"At most {size.bit_length() - 1} bits fit."
            )

    @property
    def recipe(self) -> Recipe:
        """What the scheme's name stands for."""
        return parse_scheme(self.scheme)[1]

    @property
    def green_size(self) -> int:
        """Tokens in a green list: gamma * vocab_size, cut to a whole number."""
        return int(self.vocab_size * self.gamma)

    @property
    def preceding(self) -> int:
        """Ids before a token that its score depends on."""
        return (self.context_width or 0) - self.recipe.self_salt

    @property
    def shift(self) -> int:
        """By how much the payload shifts the green set."""
        return self.payload or 0

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal for settings that mark alike, whatever the key.

        >>> a = WatermarkSettings(scheme="lefthash", vocab_size=50272)
        >>> b = WatermarkSettings(scheme="ff-additive_prf-1-False", vocab_size=50272, context_width=1)
        >>> a.fingerprint == b.fingerprint
        True
        """
        recipe = self.recipe
        spec = as_dict(self) | {"scheme": [recipe.family, recipe.prf, recipe.self_salt], "schema": SCHEMA}
        if self.payload is None:
            del spec["payload_bits"]
        if self.hard:
            del spec["delta"]
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The settings as a JSON object with a schema number.

        >>> made = WatermarkSettings(scheme="selfhash", vocab_size=50272)
        >>> WatermarkSettings.from_json(made.to_json()) == made
        True
        """
        return json.dumps({"schema": SCHEMA} | as_dict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> WatermarkSettings:
        """Settings from ``to_json``.

        Raises:
            DataError: this is no JSON object of this schema.
            SettingError: unknown names, a key, or values that are not allowed.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError("Watermark settings are one JSON object; this text is no JSON.") from None
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> WatermarkSettings:
        """Settings from a mapping with a schema number; as ``from_json``."""
        if not isinstance(content, Mapping):
            raise DataError(f"Watermark settings are one JSON object, not {type(content).__name__!r}.")
        values = dict(content)
        schema = values.pop("schema", None)
        if schema != SCHEMA or isinstance(schema, bool):
            raise DataError(
                f"Watermark settings of schema {_shown(str(schema))} cannot be read; this program reads {SCHEMA}."
            )
        if any("key" in str(name).lower() for name in values):
            raise SettingError("Watermark settings hold no key; take it out, and keep it in a file of its own.")
        if "vocab_size" not in values:
            raise SettingError("Watermark settings lack 'vocab_size', without which nothing can be detected.")
        return build(cls, values, where="watermark settings")

    @property
    def drawn_by_torch(self) -> bool:
        """Whether lists come from torch's generator on a CPU; one on a GPU draws others, unknown here."""
        return self.recipe.family in ("kgw", "hf-lefthash", "hf-selfhash")

    def build(self, key: int) -> Scheme:
        """The scheme these settings describe, under a key.

        Args:
            key: whole number from 1 to 2^64 - 1.

        Raises:
            SettingError: the key is not allowed, or ``vocab_size`` is missing.

        Warns:
            WatermarkWarning: a key of more than 32 bits for a scheme that only reaches 2^32 lists.
        """
        from .schemes import gumbel, huggingface, kgw, philox, unigram

        key = check_key(key)
        if not self.vocab_size:
            raise SettingError(
                "vocab_size is missing: give the width of the model's logits (model.config.vocab_size). Green lists "
                "of other sizes have nothing in common."
            )
        family = self.recipe.family
        if key >= 2**32 and self.drawn_by_torch:
            warnings.warn(
                f"The key has more than 32 bits, but {self.scheme!r} acts only through 32 bits: there are at most 2^32 "
                "green lists. 'philox' uses all 64.",
                WatermarkWarning,
                stacklevel=4,  # the caller of Watermark(...) or Watermark.from_settings(...)
            )
        classes: dict[str, type[Any]] = {
            "kgw": kgw.KGW,
            "hf-lefthash": huggingface.LeftHash,
            "hf-selfhash": huggingface.SelfHash,
            "unigram": unigram.Unigram,
            "philox": philox.PhiloxLists,
            "gumbel": gumbel.Gumbel,
        }
        made: Scheme = classes[family](self, key)
        return made
