"""Secret keys: read from a file or the environment, made at random, and never shown."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from ..core.errors import SettingError
from ..core.files import storage_error

VARIABLE = "ASSAY_WATERMARK_KEY"
LARGEST_FILE = 1024
_LONGEST_NUMBER = 64
_FORM = "A key is one whole number from 1 to 2^64 - 1, decimal or 0x and hexadecimal digits, and nothing else."


def parse_key(text: str, *, where: str) -> int:
    """A key from text; errors say what is wrong and never what was read.

    Args:
        text: decimal, or ``0x`` and hexadecimal digits; white space around it is left out.
        where: what the text was read from, for errors.

    Returns:
        A whole number from 1 to 2^64 - 1.

    Raises:
        SettingError: no number, 0, negative, or of more than 64 bits.

    >>> parse_key(" 0x1F\\n", where="the key file"), parse_key("31", where="the key file")
    (31, 31)
    """
    word = text.strip()
    if not word:
        raise SettingError(f"There is no key in {where}: it is empty. {_FORM}")
    if word[0] == "-" and word[1:].isascii() and word[1:].isdigit():
        raise SettingError(f"The key in {where} is negative. {_FORM}")
    digits = word[2:] if word[:2] in ("0x", "0X") else word
    allowed = "0123456789abcdefABCDEF" if digits is not word else "0123456789"
    if not digits or any(letter not in allowed for letter in digits):
        more = f" {len(word.split())} words were found." if len(word.split()) > 1 else ""
        raise SettingError(f"The key in {where} is not a number.{more} {_FORM}")
    digits = digits.lstrip("0") or "0"
    key = int(digits, 16 if allowed.endswith("F") else 10) if len(digits) <= _LONGEST_NUMBER else 2**64
    if key == 0:
        raise SettingError(f"The key in {where} is 0, with which some schemes make the same list everywhere. {_FORM}")
    if key >= 2**64:
        raise SettingError(f"The key in {where} has more than 64 bits. {_FORM}")
    return key


def read_key(path: str | Path) -> int:
    """The key in a file; a pipe is allowed, as a shell's ``<(command)``.

    Args:
        path: a file of at most 1024 bytes: one number as ``parse_key`` reads it, in ASCII (a byte order mark is
            left out).

    Raises:
        SettingError: the file is missing, empty, too long, binary, or holds no allowed number.
    """
    where = f"the key file {str(path)!r}"
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise SettingError(
            f"There is no key file {str(path)!r}. Check the path, or make a key with "
            "'assay watermark generate --new-key FILE'."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no file name"
        raise SettingError(f"Cannot read {where}: {reason}. Check the path and its permissions.") from None
    if len(content) > LARGEST_FILE:
        raise SettingError(f"The file {str(path)!r} has more than {LARGEST_FILE} bytes; it is no key file. {_FORM}")
    text = content.removeprefix(b"\xef\xbb\xbf").decode("ascii", errors="replace")
    if any(letter not in "\t\n\r" and not letter.isprintable() for letter in text) or "�" in text:
        raise SettingError(f"The key file {str(path)!r} is binary, not plain text. {_FORM}")
    return parse_key(text, where=where)


def key_from_environment(variable: str = VARIABLE) -> int | None:
    """The key in an environment variable; None if that is not set.

    Raises:
        SettingError: it is set and holds no key. Set and empty is an error too: a secret that did not arrive.
    """
    text = os.environ.get(variable)
    return None if text is None else parse_key(text, where=f"the environment variable {variable}")


def exposed(path: str | Path) -> str | None:
    """A remark if others on this computer may read a key file; None if they may not."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    return f"The key file {str(path)!r} can be read by others on this computer; 'chmod 600' keeps it to yourself."


def new_key(bits: int = 64) -> int:
    """A key from the system's source of randomness: 1 to 2^bits - 1."""
    return secrets.randbelow(2**bits - 1) + 1


def write_key(path: str | Path, key: int) -> None:
    """Write a key file that only its owner may read; a file that is there is never replaced.

    Raises:
        SettingError: the file is there already.
        RunError: it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise SettingError(
            f"{str(path)!r} is there already, and without the key in it what it marked cannot be detected any more. "
            "Choose another name, or use that key with --key-file."
        ) from None
    except OSError as error:
        raise storage_error(error, path) from None
