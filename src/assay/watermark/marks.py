"""Mark files: the settings of a mark as JSON, without the key; and marks that carry a name and their key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, RunError, SettingError
from ..core.files import to_json, write_atomic
from ..core.settings import as_dict

if TYPE_CHECKING:
    from .settings import WatermarkSettings
    from .watermark import Watermark

FORMAT = "assay-watermark"
VERSION = 1
LARGEST_FILE = 65536
SECRETS = ("key", "hashing_key", "hash_key", "keys", "secret")


@dataclass(frozen=True)
class Mark:
    """What a mark file holds.

    Args:
        settings: of the scheme; the key is not in them.
        tokenizer: what is known of the tokenizer: ``name``, ``digest``, ``size``; empty if nothing is.
    """

    settings: WatermarkSettings
    tokenizer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedMark:
    """A mark ready for use.

    Args:
        name: by which results speak of it.
        watermark: settings and key; it shows no key.
        tokenizer: where its tokenizer is loaded from, such as ``"hf:FOLDER"``; None if it is not named.
        known: what the mark file says of the tokenizer.
        source: where the key came from, such as ``"key file 'a'"``.
    """

    name: str
    watermark: Watermark
    tokenizer: str | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What makes its results: settings, tokenizer and the name of the key's source; not the key."""
        return {
            "name": self.name,
            "settings": as_dict(self.watermark.settings),
            "tokenizer": self.tokenizer,
            "source": self.source,
        }


def save(path: str | Path, settings: WatermarkSettings, *, tokenizer: Mapping[str, Any] | None = None) -> None:
    """Write a mark file. The same mark may be written again; another mark is never replaced.

    Args:
        path: the file; its folder must exist.
        settings: of the scheme.
        tokenizer: ``name``, ``digest`` and ``size`` of the tokenizer, checked at detection.

    Raises:
        SettingError: the file is there and holds something else.
        RunError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "settings": json.loads(settings.to_json()),
        "tokenizer": dict(tokenizer or {}),
    }
    if Path(path).exists():
        try:
            there = load(path)
        except (RunError, SettingError):
            raise SettingError(
                f"{str(path)!r} is there and is no mark file; it is not replaced. Choose another name."
            ) from None
        if there != Mark(settings, dict(tokenizer or {})):
            raise SettingError(
                f"{str(path)!r} describes another mark ({_difference(there.settings, settings)}); it is not replaced, "
                "because text that carries it could not be detected any more. Choose another name."
            )
        return
    write_atomic(path, to_json(content))


def load(path: str | Path) -> Mark:
    """Read a mark file, or settings as ``WatermarkSettings.to_json`` writes them.

    Raises:
        RunError: it cannot be read.
        SettingError: it is no mark file, holds a key, or settings that are not allowed.
    """
    from .settings import WatermarkSettings

    content = _read(path)
    if not isinstance(content, Mapping):
        raise SettingError(f"{str(path)!r} is no mark file: it holds no mapping. 'generate --mark-out' writes one.")
    if "schema" in content and "settings" not in content:
        content = {"format": FORMAT, "version": VERSION, "settings": content}
    if content.get("format") != FORMAT:
        foreign = "greenlist_ratio" in content
        hint = " It looks like settings of transformers; give them as flags: --scheme hf-lefthash ..." * foreign
        raise SettingError(f'{str(path)!r} is no mark file: it lacks "format": "{FORMAT}".{hint}')
    if content.get("version") != VERSION:
        raise SettingError(
            f"The mark file {str(path)!r} is not of version {VERSION}, the one this program reads. "
            "Use the program that wrote it, or a newer one."
        )
    values, tokenizer = content.get("settings"), content.get("tokenizer", {})
    if not isinstance(values, Mapping) or not isinstance(tokenizer, Mapping):
        raise SettingError(f"The mark file {str(path)!r} is damaged: 'settings' and 'tokenizer' must be mappings.")
    for name in (*content, *values, *tokenizer):
        if str(name).lower() in SECRETS:
            raise SettingError(
                f"The mark file {str(path)!r} holds a key ({name!r}), which it must not. "
                "Take it out, and put it into a key file of its own."
            )
    refuse_key_in_name(values.get("scheme"), where=f"the mark file {str(path)!r}")
    try:
        return Mark(WatermarkSettings.from_dict(values), dict(tokenizer))
    except InputError as error:
        raise SettingError(f"The mark file {str(path)!r} cannot be used: {error}") from None


def refuse_key_in_name(scheme: Any, *, where: str) -> None:
    """Freeform names may end with a key (``ff-minhash_prf-4-True-KEY``); where names are seen, that is an error."""
    if isinstance(scheme, str) and scheme.startswith("ff-") and scheme.count("-") > 3:
        raise SettingError(
            f"The scheme's name in {where} ends with a key, which others can read there. "
            f"Write {'-'.join(scheme.split('-')[:4])!r}, and put the key into a file."
        )


def _read(path: str | Path) -> Any:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no file name"
        raise RunError(
            f"Cannot read the mark file {str(path)!r}: {reason}. Check the path and its permissions."
        ) from None
    if len(content) > LARGEST_FILE:
        raise SettingError(f"{str(path)!r} has more than {LARGEST_FILE:,} bytes; it is no mark file.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise SettingError(
            f"{str(path)!r} is no mark file: it is not JSON. 'generate --mark-out' writes one."
        ) from None


def _difference(a: WatermarkSettings, b: WatermarkSettings) -> str:
    first, second = as_dict(a), as_dict(b)
    changed = [name for name in first if first[name] != second.get(name)]
    shown = [f"{name} {first[name]!r} there, {second.get(name)!r} here" for name in changed[:3]]
    return "; ".join(shown) or "another tokenizer"
