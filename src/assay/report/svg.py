"""From matplotlib's SVG to what a page can hold: small, without ids that could collide, inked by the page."""

from __future__ import annotations

import re
import textwrap
import xml.etree.ElementTree as ElementTree

INK = "#010203"  # stands for currentColor until the drawing is text

LONGEST_LABEL = 24

_REFERENCE = re.compile(r"#([\w.-]+)")
_NUMBER = re.compile(r"-?\d+\.\d+(?![\de])")
_COORDINATES = ("d", "x", "y", "width", "height", "points")
_GROUP_OPACITY = re.compile(r"(?<![\w-])opacity")
_STANDALONE = (
    "<style>:root{color:#1c2024;font-family:system-ui,sans-serif}"
    "@media (prefers-color-scheme:dark){:root{color:#e4e7ea}}</style>"
)


def inline(text: str, prefix: str) -> str:
    """An SVG document as one ``<svg>`` element for a page.

    Coordinates keep two decimals (a hundredth of a point), ids that nothing refers to go, and what all points of a
    series share is said once: 500 points take 25 kB in the place of 90.

    Args:
        text: the document as matplotlib writes it, with ``INK`` where the colour of the page's text shall be.
        prefix: begins every id that is left.
    """
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in [name for name in element.attrib if name.startswith("{")]:
            element.set(name.rpartition("}")[2], element.attrib.pop(name))
        element.tail = None
        if element.tag != "text":
            element.text = None
    _rename(root, prefix)
    for element in root.iter():
        _shorten(element)
    for element in root.iter():
        _say_once(element)
    _flatten(root)
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib |= {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": view,
        "aria-hidden": "true",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return ElementTree.tostring(root, encoding="unicode")


def clean(label: str) -> str:
    """A label without characters that XML cannot hold."""
    return "".join(character if character.isprintable() else " " for character in label)


def short(label: str) -> str:
    """A label short enough for an axis; the table beside keeps the whole text."""
    plain = clean(label)
    return textwrap.shorten(plain, LONGEST_LABEL, placeholder="…") or plain[: LONGEST_LABEL - 1] + "…"


def standalone(svg: str) -> str:
    """An SVG file of its own from a drawing: with prolog, and with ink for light and dark."""
    head, rest = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>{_STANDALONE}{rest}'


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Ids that are referred to are numbered behind the prefix; the others go."""
    used = {
        name
        for element in root.iter()
        for key in ("href", "clip-path", "style", "fill")
        for name in _REFERENCE.findall(element.get(key, ""))
    }
    names: dict[str, str] = {}
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name in used:
            element.set("id", names.setdefault(name, f"{prefix}{len(names)}"))
    for element in root.iter():
        for key in ("href", "clip-path", "style", "fill"):
            if key in element.attrib:
                element.set(key, _REFERENCE.sub(lambda hit: "#" + names.get(hit[1], hit[1]), element.attrib[key]))


def _shorten(element: ElementTree.Element) -> None:
    for key in _COORDINATES:
        if key in element.attrib:
            numbers = _NUMBER.sub(lambda hit: f"{float(hit[0]):.2f}".rstrip("0").rstrip("."), element.attrib[key])
            element.set(key, " ".join(numbers.split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]  # text that stands level
    for key, value in element.attrib.items():
        element.set(key, value.replace(INK, "currentColor"))
    if element.tag == "text":
        style = re.sub(r"font: ([\d.]+)px '[^']*'", r"font-size: \1px", element.get("style", ""))
        element.set("style", re.sub(r"font-family: '[^']*'(; )?", "", style))


def _say_once(element: ElementTree.Element) -> None:
    """A style that all points of a group share moves to the group."""
    styles = {child.get("style", "") for child in element}
    if element.tag == "g" and len(element) > 1 and len(styles) == 1 and {child.tag for child in element} == {"use"}:
        (style,) = styles
        if style and "style" not in element.attrib and not _GROUP_OPACITY.search(style):
            for child in element:
                del child.attrib["style"]
            element.set("style", style)


def _flatten(element: ElementTree.Element) -> None:
    """Groups that say nothing give way to what they hold, and empty definitions go."""
    children: list[ElementTree.Element] = []
    for child in element:
        _flatten(child)
        if child.tag == "g" and not child.attrib:
            children += list(child)
        elif child.tag != "metadata" and not (child.tag in ("defs", "style") and not len(child)):
            children.append(child)
    element[:] = children
