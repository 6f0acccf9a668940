"""The panels of a run on the page: rows of pictures as data URIs, each with the heading of its column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..core.pictures import CHANGED, FURTHER, NEARER, NO_VALUE, class_colour
from ..core.probes import ColourScale, Panels
from .galleries import data_uri

ORDER = {class_colour(index): index for index in range(256)} | {
    colour: 1000 + place for place, colour in enumerate((NO_VALUE, CHANGED, NEARER, FURTHER))
}


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """A caption, and (heading, picture as data URI or ``""``) for each column."""

    caption: str
    pictures: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Panels, ready to print; the legend has the classes first, in their order."""

    title: str
    caption: str
    rows: list[SheetRow]
    legend: tuple[tuple[str, str], ...]
    scale: ColourScale | None


def sheets(panels: Iterable[Panels]) -> list[Sheet]:
    """Every set of panels, in order."""
    return [
        Sheet(
            title=one.title,
            caption=one.caption,
            rows=[
                SheetRow(
                    caption=row.caption,
                    pictures=[
                        (name, "" if picture is None else data_uri(picture))
                        for name, picture in zip(one.columns, row.pictures, strict=True)
                    ],
                )
                for row in one.rows
            ],
            legend=tuple(sorted(one.legend, key=lambda entry: ORDER.get(entry[1], 999))),
            scale=one.scale,
        )
        for one in panels
    ]
