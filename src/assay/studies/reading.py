"""YAML that came from a person: read safely, and refused with the line where it goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..core.errors import SettingError

LARGEST_FILE = 1_000_000
LARGEST_WHOLE_NUMBER = 2**63


def read_yaml_file(path: Path) -> Any:
    """The plain values in a YAML file.

    Raises:
        SettingError: the file is missing, too large, not text, or not the YAML allowed here.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise SettingError(
                f"{path} has {path.stat().st_size} bytes; a suite or claims file is a short text "
                f"of at most {LARGEST_FILE} bytes. Check that the path is the right one."
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path} is not UTF-8 text. Write it as plain YAML.") from None
    return read_yaml(text, where=str(path))


def read_yaml(text: str, *, where: str) -> Any:
    """Plain values (mappings, lists, text, numbers) from YAML text.

    Nothing but plain values is built; keys that stand twice are an error
    because the second would silently win, and anchors and aliases are refused
    because they let a short text unfold into an endless one.

    Args:
        text: the YAML.
        where: what to call the text in messages.

    Raises:
        SettingError: with the line and column where reading stopped.

    >>> read_yaml("probes: [clean-accuracy]", where="suite.yaml")
    {'probes': ['clean-accuracy']}
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingError(f"{where} is not valid YAML{place}: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise SettingError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise SettingError(f"{where} is nested too deeply; a suite needs three levels.") from None
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:
        raise SettingError(f"{where} holds a value that YAML cannot read: {error}. Put it in quotes.") from None


class _PlainLoader(yaml.SafeLoader):
    """``SafeLoader`` that refuses duplicate keys, anchors, aliases and endless whole numbers."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(
                None, None, "anchors (&) and aliases (*) are not accepted, write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice, keep one of them", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        value = self.construct_yaml_int(node)
        if abs(value) >= LARGEST_WHOLE_NUMBER:
            raise yaml.constructor.ConstructorError(
                None, None, "a whole number beyond 2**63 has no use here", node.start_mark
            )
        return int(value)


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_whole_number)
