"""What every edit answers, and how one is applied to a document with a random stream of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ...core.errors import DataError, InputError, SettingError, did_you_mean
from ...core.methods import cards, settings_of
from ...core.seeds import seed
from ...core.settings import as_dict, build, fields_of

TOKENS, TEXT = "tokens", "text"


class Tokenizer(Protocol):
    """The two directions that edits of text need."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an edit may use besides the document itself.

    Args:
        rng: the random stream of this document under this edit.
        vocab_size: ids lie in 0..vocab_size-1.
        human: unmarked documents, int64 [n] each, into which marked text can be pasted.
    """

    rng: np.random.Generator
    vocab_size: int
    human: Sequence[np.ndarray] = ()


class Edit(Protocol):
    """Settings of an edit; ``apply`` takes ids and gives ids, or takes text and gives text, as ``level`` says.

    Attributes:
        level: ``"tokens"`` or ``"text"``.
        strength: the setting whose values are compared with each other; ``""`` where there is none.
        usual: values of it that are tried by default.
    """

    level: ClassVar[str]
    strength: ClassVar[str]
    usual: ClassVar[tuple[float, ...]]

    def apply(self, document: Any, surroundings: Surroundings) -> Any:
        """The edited document."""
        ...


@dataclass(frozen=True, kw_only=True)
class NamedEdit:
    """An edit by its name, with the settings it is applied with."""

    name: str
    edit: Edit

    @property
    def strength(self) -> float | None:
        """The value of the setting by which strengths are compared, or None."""
        return float(getattr(self.edit, self.edit.strength)) if self.edit.strength else None

    @property
    def family(self) -> str:
        """Name and all settings but the strength: what a line of a figure has in common."""
        return _label(self.name, {key: value for key, value in self._unusual().items() if key != self.edit.strength})

    @property
    def label(self) -> str:
        """Name and settings that differ from the defaults, with the strength."""
        settings = self._unusual()
        if self.edit.strength:
            settings = {**settings, self.edit.strength: getattr(self.edit, self.edit.strength)}
        return _label(self.name, settings)

    def _unusual(self) -> dict[str, Any]:
        defaults = as_dict(type(self.edit)())
        return {key: value for key, value in as_dict(self.edit).items() if value != defaults[key]}


def named_edits(text: str) -> list[NamedEdit]:
    """Edits from their short form, one for each value of its strength.

    Args:
        text: a name from ``assay ls edit``, alone for its usual strengths, ``name:0.1,0.3`` for others, or with any
            settings: ``name:share=0.1,0.25;spans=3``.

    Raises:
        SettingError: the name or a setting is unknown, or a value is not allowed.

    >>> [edit.label for edit in named_edits("substitute:0.1,0.5")]
    ['substitute rate=0.1', 'substitute rate=0.5']
    >>> [edit.label for edit in named_edits("copy-paste:share=0.25;spans=3")]
    ['copy-paste spans=3 share=0.25']
    """
    name, _, rest = text.partition(":")
    known = {card.name: card for card in cards("edit")}
    if name not in known:
        raise SettingError(f"There is no edit named {name!r}.{did_you_mean(name, known)}")
    kind: Any = settings_of(known[name])
    names = {field.name for field, _ in fields_of(kind)}
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(";"))):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = kind.strength, part
        if not key:
            raise SettingError(f"The edit {name!r} has no strength, and {part!r} was given. Leave it out.")
        key = key.replace("-", "_")
        if key not in names:
            raise SettingError(f"The edit {name!r} has no setting {key!r}.{did_you_mean(key, names)}")
        given[key] = value
    if not kind.strength:
        return [NamedEdit(name=name, edit=build(kind, given))]
    values: Sequence[Any] = given.pop(kind.strength).split(",") if kind.strength in given else kind.usual
    return [NamedEdit(name=name, edit=build(kind, {**given, kind.strength: value})) for value in values]


def stream(root: int, named: NamedEdit, document: np.ndarray) -> np.random.Generator:
    """The random stream of one document under one edit: it follows from their content, not from any order.

    Args:
        root: seed of the study.
        named: the edit.
        document: ids before the edit.
    """
    content = hashlib.blake2b(np.ascontiguousarray(document, dtype="<i8").tobytes(), digest_size=16).hexdigest()
    settings = repr(sorted(as_dict(named.edit).items()))
    return np.random.default_rng(seed(root, "edit", named.name, settings, content))


def edit_document(
    named: NamedEdit,
    document: np.ndarray,
    *,
    root: int,
    vocab_size: int,
    human: Sequence[np.ndarray] = (),
    tokenizer: Tokenizer | None = None,
    clean: Callable[[str], str] = str,
) -> np.ndarray:
    """A document after an edit; edits of text decode it, change it and encode it again.

    Args:
        named: the edit.
        document: int64 [n] ids.
        root: seed of the study.
        vocab_size: ids lie in 0..vocab_size-1.
        human: unmarked documents, for edits that mix.
        tokenizer: for edits of text.
        clean: what the detector does to edited text before it is encoded, such as a normaliser; nothing by default.

    Returns:
        int64 [m] ids; the given document is not changed.

    Raises:
        InputError: an edit of text has no tokenizer, or an edit has no unmarked text to mix with.

    >>> (edit,) = named_edits("truncate:0.5")
    >>> edit_document(edit, np.arange(6), root=0, vocab_size=10).tolist()
    [0, 1, 2]
    """
    ids = np.array(document, dtype=np.int64)
    if ids.ndim != 1 or (len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size):
        raise DataError(f"A document to edit has the shape {ids.shape}; ids [n] in 0..{vocab_size - 1} are needed.")
    surroundings = Surroundings(rng=stream(root, named, ids), vocab_size=vocab_size, human=human)
    if named.edit.level == TOKENS:
        return np.asarray(named.edit.apply(ids, surroundings), dtype=np.int64)
    if tokenizer is None:
        raise InputError(f"The edit {named.name!r} changes text, and there is no tokenizer. Give one: --tokenizer.")
    text = named.edit.apply(tokenizer.decode(ids.tolist()), surroundings)
    return np.asarray(tokenizer.encode(clean(text)), dtype=np.int64)


def chosen(rng: np.random.Generator, n: int, rate: float) -> np.ndarray:
    """``round(rate n)`` of the places 0..n-1, ascending, all sets equally likely."""
    return np.sort(rng.choice(n, size=round(rate * n), replace=False))


def replaced(text: str, rng: np.random.Generator, rate: float, change: Callable[[str], str] | Mapping[str, str]) -> str:
    """A text in which a share of the characters that can be changed is changed.

    Args:
        text: any.
        rng: which ones.
        rate: share in [0, 1].
        change: a mapping of characters, or a function of one that returns it unchanged where it cannot.
    """
    turned = [change.get(sign, sign) if isinstance(change, Mapping) else change(sign) for sign in text]
    places = [place for place, sign in enumerate(text) if turned[place] != sign]
    result = list(text)
    for index in chosen(rng, len(places), rate):
        result[places[index]] = turned[places[index]]
    return "".join(result)


def _label(name: str, settings: Mapping[str, Any]) -> str:
    values = (f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items())
    return " ".join([name, *values])
