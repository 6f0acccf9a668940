"""Masks, depth maps and changes as pictures that colour-blind eyes and black and white keep apart.

Pictures are ``[C, H, W]`` in [0, 1]. Colours of classes differ in lightness as well as in hue, borders are drawn, and
what has no value or has changed is striped, so that no reading hangs on hue alone.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .errors import InputError
from .probes import ColourScale

# Neighbours in this order differ in lightness by a fifth of the range or more.
CLASS_COLOURS = ("#1b3f8b", "#7cc4ee", "#b8400b", "#f7ec73", "#0a8f6b", "#f2b134", "#5b2a86", "#d98cb3")
NEAR_TO_FAR = ("#fee838", "#d1be66", "#a69d75", "#7d7c78", "#575d6d", "#233e6c", "#00224e")
NEARER, FURTHER, CHANGED = "#1f6fb5", "#d1600a", "#c8006a"
NO_VALUE = "#9a9a9a"
STEPS = (1, 2, 5)
_PALE = 0.9
_STRIPES = 24  # pairs of stripes along the longer side of a picture; at least four pixels each


class Coloured(NamedTuple):
    """A picture ``[3, H, W]`` and what its colours stand for: (name, ``"#rrggbb"``)."""

    picture: np.ndarray
    legend: tuple[tuple[str, str], ...]


def class_colour(index: int) -> str:
    """The colour of a class, the same in every picture.

    >>> class_colour(0), class_colour(3)
    ('#1b3f8b', '#f7ec73')
    """
    turn, place = divmod(abs(index), len(CLASS_COLOURS))
    if turn == 0:
        return CLASS_COLOURS[place]
    if turn <= 2:  # the same hues, paler and then darker
        return _hex(0.5 * _rgb(CLASS_COLOURS[place]) + (0.5 if turn == 1 else 0.1))
    lightness = (0.3, 0.75, 0.5)[index % 3]
    return _hex(np.array(colorsys.hls_to_rgb((index * 0.61803398875) % 1, lightness, 0.6)))


def colour_mask(ids: np.ndarray, names: Sequence[str] = (), *, ignore_index: int | None = 255) -> Coloured:
    """Classes as colours with dark borders between them; ignored pixels are striped grey.

    Args:
        ids: class of every pixel ``[H, W]``.
        names: name of each class; a class without one is called by its number.
        ignore_index: what pixels without a class hold, or ``None``.

    Returns:
        The picture, and the classes in it in the order of their numbers.
    """
    ids = _plane("mask", ids).astype(np.int64)
    picture = np.empty((3, *ids.shape), dtype=np.float32)
    for index in np.unique(ids).tolist():
        here = ids == index
        picture[:, here] = (
            _without_value(ids.shape)[:, here] if index == ignore_index else _rgb(class_colour(index))[:, None]
        )
    picture[:, _borders(ids)] *= 0.45
    return Coloured(picture, mask_legend([ids], names, ignore_index=ignore_index))


def mask_legend(
    masks: Iterable[np.ndarray], names: Sequence[str] = (), *, ignore_index: int | None = 255
) -> tuple[tuple[str, str], ...]:
    """What the colours of several masks stand for: the classes in them in the order of their numbers.

    >>> mask_legend([np.array([[0, 255]]), np.array([[0, 2]])], ("sky", "floor"))
    (('sky', '#1b3f8b'), ('class 2', '#b8400b'), ('ignored', '#9a9a9a'))
    """
    seen = sorted({index for mask in masks for index in np.unique(np.asarray(mask)).tolist()})
    legend = [
        (names[index] if 0 <= index < len(names) else f"class {index}", class_colour(index))
        for index in map(int, seen)
        if index != ignore_index
    ]
    return (*legend, *((("ignored", NO_VALUE),) if ignore_index in seen else ()))


def depth_ends(*maps: np.ndarray) -> tuple[float, float]:
    """The ends of a scale that fits all valid pixels (finite, above 0) of the maps, but for 1 % at both ends.

    >>> depth_ends(np.array([[0.0, 1.0, 1.0]]), np.array([[3.0, np.nan]]))
    (1.0, 3.0)
    """
    values = np.concatenate([one[np.isfinite(one) & (one > 0)].ravel() for one in map(np.asarray, maps)] or [[]])
    if not values.size:
        return 0.0, 1.0
    low, high = np.sort(values)[[round(share * (values.size - 1)) for share in (0.01, 0.99)]].tolist()
    return (low, high) if low < high else (low, low + 1.0)


def colour_depth(depth: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """A depth map ``[H, W]`` as a picture ``[3, H, W]``: bright is near, dark is far, striped has no depth.

    Args:
        depth: finite and above 0 where it is valid.
        lo: depth of the brightest colour; what is nearer has it too.
        hi: depth of the darkest colour; what is further away has it too.
    """
    depth = _plane("depth map", depth).astype(np.float64)
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise InputError(f"Depths are to be coloured from {lo} to {hi}; give two finite depths, the nearer one first.")
    valid = np.isfinite(depth) & (depth > 0)
    place = np.clip((np.where(valid, depth, lo) - lo) / (hi - lo), 0, 1)
    stops = np.linspace(0, 1, len(NEAR_TO_FAR))
    channels = np.stack([_rgb(colour) for colour in NEAR_TO_FAR], axis=1)
    picture = np.stack([np.interp(place, stops, channel) for channel in channels]).astype(np.float32)
    return np.where(valid, picture, _without_value(depth.shape))


def depth_scale(lo: float, hi: float, unit: str = "m") -> ColourScale:
    """The scale of ``colour_depth`` for the page."""
    return ColourScale(label="depth", low=f"near, {lo:.3g} {unit}", high=f"far, {hi:.3g} {unit}", colours=NEAR_TO_FAR)


def mark_changes(before: np.ndarray, after: np.ndarray, image: np.ndarray | None = None) -> Coloured:
    """Where two masks ``[H, W]`` differ: striped, over the pale image.

    Args:
        before: class of every pixel.
        after: class of every pixel.
        image: ``[C, H, W]`` in [0, 1] behind the stripes, or ``None``.
    """
    before, after = _plane("mask", before), _plane("mask", after, np.asarray(before).shape)
    changed = before != after
    picture = _pale(image, changed.shape)
    _paint(picture, changed, CHANGED, np.ones(changed.shape), rising=True)
    return Coloured(picture, (("changed (striped)", CHANGED),))


def mark_depth_changes(
    before: np.ndarray, after: np.ndarray, image: np.ndarray | None = None, *, tolerance: float = 0.1
) -> Coloured:
    """Where two depth maps ``[H, W]`` differ by more than a share: the stripes rise where it came nearer and fall
    where it went further away, and are strongest from a factor of 2 on.

    Args:
        before: depths.
        after: depths.
        image: ``[C, H, W]`` in [0, 1] behind the stripes, or ``None``.
        tolerance: share of the earlier depth up to which nothing is drawn.
    """
    before = _plane("depth map", before).astype(np.float64)
    after = _plane("depth map", after, before.shape).astype(np.float64)
    valid = np.isfinite(before) & np.isfinite(after) & (before > 0) & (after > 0)
    ratio = np.log2(np.divide(after, before, out=np.ones_like(before), where=valid))
    strength = 0.4 + 0.6 * np.clip(np.abs(ratio), 0, 1)
    picture = _pale(image, before.shape)
    _paint(picture, ratio < math.log2(1 / (1 + tolerance)), NEARER, strength, rising=True)
    _paint(picture, ratio > math.log2(1 + tolerance), FURTHER, strength, rising=False)
    share = f"{100 * tolerance:g} %"
    return Coloured(
        picture,
        (
            (f"nearer by more than {share} (stripes rise)", NEARER),
            (f"further by more than {share} (stripes fall)", FURTHER),
        ),
    )


def magnified_change(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, int]:
    """The change of a picture as mid grey plus the change times a whole factor, and the factor.

    Grey is "unchanged", brighter is "raised", darker "lowered".
    """
    change = np.nan_to_num(np.asarray(after, dtype=np.float32)) - np.nan_to_num(np.asarray(before, dtype=np.float32))
    factor = magnification(change)
    return np.clip(0.5 + factor * change, 0, 1), factor


def magnification(change: np.ndarray) -> int:
    """The largest of 1, 2, 5, 10, 20, 50 ... that keeps the largest change within half the range.

    >>> magnification(np.array([0.03, -0.01])), magnification(np.zeros(3))
    (10, 1)
    """
    largest = float(np.abs(change).max(initial=0.0))
    if largest < 1e-9:
        return 1
    candidates = [step * 10**power for power in range(9) for step in STEPS]
    return max([factor for factor in candidates if factor * largest <= 0.5 + 1e-6], default=1)


def levels(picture: np.ndarray) -> np.ndarray:
    """A picture in [0, 1] as whole levels from 0 to 255; what is no number is black."""
    return np.rint(255 * np.clip(np.nan_to_num(picture), 0.0, 1.0)).astype(np.uint8)


def _plane(what: str, values: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or not values.size or (shape is not None and values.shape != shape):
        raise InputError(f"A {what} has the shape {values.shape}; give {list(shape) if shape else '[H, W]'}.")
    return values


def _pale(image: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """The image in pale grey as ``[3, H, W]``, or an even pale grey."""
    if image is None:
        return np.full((3, *shape), _PALE, dtype=np.float32)
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 3 or image.shape[1:] != shape:
        raise InputError(f"An image of the shape {image.shape} is to lie behind a map of {shape}; give [C, H, W].")
    grey = np.clip(np.nan_to_num(image.mean(axis=0)), 0, 1)
    return np.repeat((0.55 + 0.4 * grey)[None], 3, axis=0)


def _paint(picture: np.ndarray, where: np.ndarray, colour: str, strength: np.ndarray, *, rising: bool) -> None:
    """Stripe part of a picture, in place, with a full border."""
    lines = where & (_stripes(where.shape, rising) | _borders(where))
    share = strength[lines]
    picture[:, lines] = (1 - share) * picture[:, lines] + share * _rgb(colour)[:, None]
    between = where & ~lines
    picture[:, between] = 0.75 * picture[:, between] + 0.25 * _rgb(colour)[:, None]


def _without_value(shape: tuple[int, ...]) -> np.ndarray:
    return np.where(_stripes(shape, False), 0.6, 0.82)[None].repeat(3, axis=0).astype(np.float32)


def _stripes(shape: tuple[int, ...], rising: bool) -> np.ndarray:
    """Every second diagonal band."""
    period = max(4, round(max(shape) / _STRIPES))
    down, across = np.indices(shape)
    return ((across + down if rising else across - down) % period) < period / 2


def _borders(ids: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour differs."""
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edge[:-1] |= ids[:-1] != ids[1:]
    return edge


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)], dtype=np.float32)


def _hex(rgb: np.ndarray) -> str:
    return "#" + "".join(f"{level:02x}" for level in levels(rgb).tolist())
