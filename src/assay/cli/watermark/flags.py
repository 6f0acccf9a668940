"""Flags that the actions of ``assay watermark`` share: marks and keys, texts, tokenizers."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import SettingError, did_you_mean
from ..common import note, numbers, positive, whole

if TYPE_CHECKING:
    from ...watermark.documents import BadLine, Document
    from ...watermark.marks import NamedMark
    from ...watermark.settings import WatermarkSettings
    from ...watermark.tokenization import Tokenizer

FPR = 1e-6
SCHEME_HELP = """\
philox (default), gumbel, unigram, simple_1, selfhash, minhash, skipgram, ff-PRF-H-True|False,
hf-lefthash, hf-selfhash"""
TEXT_HELP = """\
a .txt file (one document), a .jsonl file (one document a line), a folder, or - for standard input:
JSON lines if it begins with {, else one text"""
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_SETTINGS = {
    "scheme": "scheme",
    "vocab_size": "vocab_size",
    "gamma": "gamma",
    "delta": "delta",
    "context_width": "context_width",
    "hard": "hard",
    "entropy_threshold": "entropy_threshold",
    "payload": "payload",
    "payload_bits": "payload_bits",
}


def add_mark_flags(parser: argparse.ArgumentParser, *, several: bool = True, key: bool = True) -> None:
    """The mark: by a mark file or by its settings, and the key.

    Args:
        parser: gets the flags.
        several: whether ``--mark`` and ``--key-file`` may be repeated.
        key: whether the key is asked for; without it, read the mark with ``public_key`` set.
    """
    again = "; may be repeated" if several else ""
    group = parser.add_argument_group("mark")
    group.add_argument(
        "--mark", action="append", metavar="[NAME=]FILE", help=f"mark file of 'generate --mark-out'{again}"
    )
    if key:
        group.add_argument(
            "--key-file",
            action="append",
            metavar="[NAME=]FILE",
            help="file with the secret key, one whole number; with NAME= for the mark of that name "
            f"(default: the variable ASSAY_WATERMARK_KEY){again}",
        )
        group.add_argument(
            "--public-key",
            action="store_true",
            help="use the key that papers and libraries publish, 15485863: everyone can detect and imitate that mark",
        )
    group = parser.add_argument_group("settings of the mark, in the place of a mark file")
    group.add_argument("--scheme", metavar="NAME", help=SCHEME_HELP)
    group.add_argument(
        "--vocab-size", type=whole, metavar="V", help="width of the model's logits; not always that of the tokenizer"
    )
    group.add_argument("--gamma", type=share, metavar="G", help="share of green tokens (default: 0.25)")
    group.add_argument("--delta", type=real, metavar="D", help="added to the logits of green tokens (default: 2)")
    group.add_argument("--context-width", type=whole, metavar="H", help="ids before a token that choose its list")
    group.add_argument("--hard", action="store_true", default=None, help="allow green tokens only")
    group.add_argument(
        "--legacy-lists",
        action="store_true",
        default=None,
        help="the last ids of a permutation are green, not the first",
    )
    group.add_argument(
        "--entropy-threshold",
        type=real,
        metavar="S",
        help="mark only where the model has a choice: entropy of at least S nats",
    )
    group.add_argument("--payload", type=natural, metavar="N", help="a number that the text carries")
    group.add_argument("--payload-bits", type=whole, metavar="B", help="bits of the payload (default: 8)")


def read_marks(arguments: argparse.Namespace, vocab_size: int | None = None) -> list[NamedMark]:
    """The marks that the flags name, each with its key; several unnamed keys are tried with every mark.

    Args:
        arguments: with the flags of ``add_mark_flags``, and of ``add_tokenizer_flag`` if there are tokenizers.
        vocab_size: of a model at hand, if one is: used where the flags give none, and checked against the others.

    Raises:
        SettingError: flags contradict each other, or a key or mark cannot be used.
    """
    from ...watermark.marks import NamedMark
    from ...watermark.settings import WatermarkWarning
    from ...watermark.watermark import Watermark

    tokenizers = named(getattr(arguments, "tokenizer", None), "--tokenizer")
    described = _described(arguments, vocab_size, tokenizers)
    names = [name for name, _, _ in described]
    keys = _keys(arguments, names)
    _check_names(tokenizers, names, "--tokenizer")
    marks: list[NamedMark] = []
    for name, settings, known in described:
        if vocab_size is not None and settings.vocab_size != vocab_size:
            raise SettingError(
                f"The mark {name!r} is for {settings.vocab_size:,} ids, the model's logits have {vocab_size:,}. Green "
                "lists depend on this number, so text marked with one is not detected with the other. "
                f"Use the mark made for this model, or --vocab-size {vocab_size}."
            )
        own_keys, own_tokenizers = _for(keys, name), _for(tokenizers, name) or [None]
        for (key, source), tokenizer in itertools.product(own_keys, own_tokenizers):
            label = name
            if len(own_keys) > 1:
                label += f"/{Path(source).name}"
            if len(own_tokenizers) > 1 and tokenizer is not None:
                label += f"/{Path(tokenizer).name}"
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", WatermarkWarning)
                watermark = Watermark.from_settings(settings, key=key)
            for warning in caught:
                note(f"warning: mark {label!r}: {warning.message}")
            marks.append(NamedMark(label, watermark, tokenizer=tokenizer, known=known, source=source))
    repeated = {mark.name for mark in marks if [other.name for other in marks].count(mark.name) > 1}
    if repeated:
        raise SettingError(f"Two marks are called {sorted(repeated)[0]!r}. Name them: --mark a=FILE --mark b=FILE ...")
    return marks


def read_mark(arguments: argparse.Namespace, vocab_size: int | None = None) -> NamedMark:
    """The one mark that the flags name."""
    marks = read_marks(arguments, vocab_size)
    if len(marks) > 1:
        raise SettingError(f"One mark is needed here, and the flags name {len(marks)}. Give one --mark and one key.")
    return marks[0]


def add_tokenizer_flag(parser: argparse._ActionsContainer) -> None:
    """``--tokenizer``, which text needs and token ids do not."""
    parser.add_argument(
        "--tokenizer",
        action="append",
        metavar="[NAME=]hf:DIR",
        help="folder of the model's tokenizer; with NAME= for the mark of that name; may be repeated",
    )


def add_reading_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How documents are read; the group, for more."""
    group = parser.add_argument_group("texts")
    group.add_argument("--ids", action="store_true", help="the lines hold token ids ('ids'), which need no tokenizer")
    add_tokenizer_flag(group)
    group.add_argument(
        "--field", metavar="NAME", help="field of a JSONL line with the text (default: text; ids with --ids)"
    )
    group.add_argument("--id-field", metavar="NAME", default="id", help="field with a document's name (default: id)")
    return group


def add_text_flags(parser: argparse.ArgumentParser) -> None:
    """The texts, and how they are read."""
    parser.add_argument("texts", nargs="+", metavar="TEXT", help=TEXT_HELP)
    group = add_reading_flags(parser)
    group.add_argument(
        "--normalise",
        metavar="NAMES",
        default="",
        help="before tokens are made: unicode (NFKC, no invisible characters), homoglyphs (letters that look Latin), "
        "or both, separated by a comma; not applied to ids",
    )


def read_documents(
    arguments: argparse.Namespace, *, piece: int | None = None, overlap: int = 0
) -> Iterator[Document | BadLine]:
    """The documents of the flags of ``add_text_flags``, one after the other, in bounded memory."""
    from ...watermark.documents import PIECE, read

    return read(
        arguments.texts,
        kind="ids" if arguments.ids else "text",
        field=arguments.field,
        id_field=arguments.id_field,
        piece=piece or PIECE,
        overlap=overlap,
    )


def read_normaliser(arguments: argparse.Namespace) -> Callable[[str], str]:
    """What ``--normalise`` names, as a function from text to text."""
    from ...watermark.normalisers import normaliser

    if arguments.normalise and arguments.ids:
        raise SettingError("--normalise changes text, and --ids says that token ids are given. Leave one out.")
    return normaliser(arguments.normalise)


def read_tokenizers(marks: Sequence[NamedMark], *, ids: bool) -> dict[str, Tokenizer]:
    """The tokenizer of every mark, by the mark's name, each folder loaded once; checked against the marks.

    Args:
        marks: whose ``tokenizer`` names the folder.
        ids: token ids are given, which need none; named ones are loaded all the same, to show text.

    Raises:
        SettingError: text is given, and a mark has no tokenizer.
        MissingExtra, ModelError: a tokenizer cannot be loaded.
    """
    from ...watermark.tokenization import check_tokenizer, load_tokenizer

    loaded: dict[str, Tokenizer] = {}
    found: dict[str, Tokenizer] = {}
    for mark in marks:
        if mark.tokenizer is None:
            if ids:
                continue
            raise SettingError(
                f"Text needs the tokenizer of the model that wrote it, and none is named for the mark {mark.name!r}. "
                "Give --tokenizer hf:FOLDER, or token ids with --ids."
            )
        if mark.tokenizer not in loaded:
            loaded[mark.tokenizer] = load_tokenizer(mark.tokenizer)
        found[mark.name] = loaded[mark.tokenizer]
        for remark in check_tokenizer(found[mark.name], mark.watermark.settings.vocab_size, known=mark.known):
            note(f"warning: mark {mark.name!r}: {remark}")
    return found


def add_verdict_flags(
    parser: argparse._ActionsContainer,
    default: float = FPR,
    help: str = "share of unmarked texts that may be called marked (default: 1e-6)",
) -> None:
    """``--fpr``."""
    parser.add_argument("--fpr", type=share, default=default, metavar="P", help=help)


def share(text: str) -> float:
    """A number above 0 and below 1."""
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a number above 0 and below 1 is needed")
    return value


def real(text: str) -> float:
    """A number; fractions are accepted."""
    (value, *others) = numbers(text)
    if others:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; one number is needed")
    return value


def window_sizes(text: str) -> str:
    """``"max"``, ``"geometric"``, or whole numbers separated by commas."""
    if text not in ("max", "geometric"):
        for part in text.split(","):
            whole(part.strip())
    return text


def natural(text: str) -> int:
    """A whole number from 0 up."""
    return 0 if text == "0" else whole(text)


def named(values: Sequence[str] | None, flag: str) -> list[tuple[str | None, str]]:
    """(name or None, value) of a flag that may be written ``NAME=VALUE``; a file of that whole name comes first."""
    found: list[tuple[str | None, str]] = []
    for value in values or []:
        name, equals, rest = value.partition("=")
        named = bool(equals) and _NAME.fullmatch(name) is not None and not os.path.exists(value)
        if not (rest if named else value):
            raise SettingError(f"{flag} is empty; a file is needed.")
        found.append((name, rest) if named else (None, value))
    return found


def _for(values: Sequence[tuple[str | None, Any]], name: str) -> list[Any]:
    """What is meant for a mark: what bears its name, else what bears none."""
    own = [value for given, value in values if given == name]
    return own or [value for given, value in values if given is None]


def _check_names(values: Sequence[tuple[str | None, Any]], names: Sequence[str], flag: str) -> None:
    for given, _ in values:
        if given is not None and given not in names:
            raise SettingError(f"{flag} {given}=... names no mark.{did_you_mean(given, names)}")


def _described(
    arguments: argparse.Namespace, vocab_size: int | None, tokenizers: Sequence[tuple[str | None, str]]
) -> list[tuple[str, WatermarkSettings, dict[str, Any]]]:
    """(name, settings, what is known of the tokenizer) of every mark."""
    from ...watermark.marks import load, refuse_key_in_name
    from ...watermark.settings import WatermarkSettings

    given = {name: getattr(arguments, flag) for flag, name in _SETTINGS.items() if getattr(arguments, flag) is not None}
    if arguments.legacy_lists:
        given["select_green_tokens"] = False
    if arguments.mark:
        if given:
            flags = ", ".join("--" + name.replace("_", "-") for name in given)
            raise SettingError(f"A mark file holds all settings of a mark; leave out {flags}, or leave out --mark.")
        found = []
        for name, path in named(arguments.mark, "--mark"):
            mark = load(path)
            found.append((name or Path(path).stem, mark.settings, dict(mark.tokenizer)))
        return found
    refuse_key_in_name(given.get("scheme"), where="--scheme")
    if "vocab_size" not in given:
        given["vocab_size"] = vocab_size or _width_of_model(tokenizers)
    if given["vocab_size"] is None:
        raise SettingError(
            "--vocab-size is needed: the width of the model's logits ('vocab_size' in its config.json), which may be "
            "larger than the tokenizer's. Green lists depend on it: a difference of a few ids destroys detection."
        )
    given.setdefault("scheme", "philox")
    return [(str(given["scheme"]), WatermarkSettings(**given), {})]


def _width_of_model(tokenizers: Sequence[tuple[str | None, str]]) -> int | None:
    """``vocab_size`` of the model whose folder the only tokenizer is read from, if its config.json tells."""
    from ...watermark.tokenization import folder_of

    folders = {folder_of(value) for _, value in tokenizers}
    folder = folders.pop() if len(folders) == 1 else None
    if folder is None:
        return None
    try:
        content = json.loads((Path(folder) / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    width = content.get("vocab_size") if isinstance(content, dict) else None
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        return None
    note(f"vocab_size is {width:,}, as the model's config.json says; give --vocab-size for another.")
    return width


def _keys(arguments: argparse.Namespace, names: Sequence[str]) -> list[tuple[str | None, tuple[int, str]]]:
    """(mark or None, (key, where it came from)); at least one that serves every mark."""
    from ...watermark.keys import VARIABLE, exposed, key_from_environment, read_key
    from ...watermark.settings import DEFAULT_KEY

    files = named(arguments.key_file, "--key-file")
    _check_names(files, names, "--key-file")
    if files and arguments.public_key:
        raise SettingError("--key-file and --public-key contradict each other. Leave one out.")
    found: list[tuple[str | None, tuple[int, str]]] = []
    for name, path in files:
        found.append((name, (read_key(path), path)))
        remark = exposed(path)
        if remark:
            note(f"warning: {remark}")
    if arguments.public_key:
        found.append((None, (DEFAULT_KEY, "public")))
    unserved = [name for name in names if not _for(found, name)]
    if unserved:
        key = key_from_environment()
        if key is None:
            more = f" for the mark {unserved[0]!r}" if len(names) > 1 else ""
            raise SettingError(
                f"No key is given{more}. Give --key-file FILE or set {VARIABLE}; 'assay watermark generate --new-key "
                "FILE' makes one, and --public-key takes the one that papers publish."
            )
        found += [(name, (key, VARIABLE)) for name in unserved]
    return found
