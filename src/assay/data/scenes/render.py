"""A picture of a scene with its exact mask and depth, by casting one ray a pixel.

Ray directions have length 1 along the camera's axis, so that the parameter t of a ray is the depth of
the point it meets: the distance along that axis, as depth cameras and data sets give it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .layout import Material, Scene, Solid
from .shapes import SHAPES, dot, may_meet

CLASSES = ("floor", "wall", "sky", *SHAPES)
FARTHEST = 20.0
_SKY = -1
_FLOOR = 0


class Picture(NamedTuple):
    """What the camera sees.

    ``image`` uint8 [3, H, W]; ``mask`` uint8 [H, W], positions in ``CLASSES``; ``depth`` float32 [H, W] in metres,
    0 for the sky and beyond 20 m.
    """

    image: np.ndarray
    mask: np.ndarray
    depth: np.ndarray


def render(scene: Scene, height: int, width: int) -> Picture:
    """Render a scene; resolution changes nothing but how finely it is sampled."""
    rays = camera_rays(scene, height, width)
    eye = np.array([[0.0], [scene.eye], [0.0]])
    depth, surface, normals = first_surfaces(scene, eye, rays)
    seen = surface != _SKY
    points = eye + np.where(seen, depth, 0) * rays
    bright = scene.light @ normals
    bright = np.where(seen & (bright > 0), bright, 0)
    _shade(scene, points, bright)
    pixel = 2 * scene.slope / min(height, width)
    colours = np.empty((3, height * width))
    colours[:, ~seen] = _sky(scene, rays[:, ~seen])
    materials = [scene.floor, *(wall.material for wall in scene.walls), *(solid.material for solid in scene.solids)]
    origins = [np.zeros(3)] * (1 + len(scene.walls)) + [solid.centre for solid in scene.solids]
    glossy = np.zeros(height * width)
    for number, (material, origin) in enumerate(zip(materials, origins, strict=True)):
        here = np.flatnonzero(surface == number)
        if len(here):
            colours[:, here] = _paint(material, points[:, here] - origin[:, None], depth[here] * pixel)
            glossy[here] = material.gloss
    colours *= np.where(seen, scene.ambient + (1 - scene.ambient) * bright, 1)
    colours *= np.where(seen, scene.light_colour[:, None], 1)
    shiny = np.flatnonzero((glossy > 0) & (bright > 0))
    colours[:, shiny] += glossy[shiny] * _highlight(scene, rays[:, shiny], normals[:, shiny])
    clear = np.where(seen, np.exp(-scene.density * np.where(seen, depth, 0)), 1)
    colours = scene.haze[:, None] + (colours - scene.haze[:, None]) * clear
    return Picture(
        _exposed(scene, colours).reshape(3, height, width),
        _classes(scene)[surface].reshape(height, width),
        np.where(seen & (depth <= FARTHEST), depth, 0).astype(np.float32).reshape(height, width),
    )


def camera_rays(scene: Scene, height: int, width: int) -> np.ndarray:
    """Directions [3, H W] through the centres of the pixels, row by row."""
    scale = 2 * scene.slope / min(height, width)
    across = (np.arange(width) - (width - 1) / 2) * scale
    down = (np.arange(height) - (height - 1) / 2) * scale
    grid = np.ones((3, height, width))
    grid[0], grid[1] = across, -down[:, None]
    return scene.rotation @ grid.reshape(3, -1)


def first_surfaces(scene: Scene, eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The depth, the number and the normal of what each ray meets first.

    Numbers: -1 the sky, 0 the floor, then the walls, then the solids.
    """
    falls = rays[1] < -1e-9
    depth = np.where(falls, scene.eye / np.where(falls, -rays[1], 1), np.inf)
    surface = np.where(falls, _FLOOR, _SKY)
    normals = np.zeros_like(rays)
    normals[1] = 1
    for number, wall in enumerate(scene.walls, start=1):
        towards = wall.across @ rays
        t = np.where(towards > 1e-9, wall.distance / np.where(towards > 1e-9, towards, 1), np.inf)
        level = scene.eye + np.where(np.isfinite(t), t, 0) * rays[1]
        nearer = (t < depth) & (level <= wall.height)
        depth[nearer], surface[nearer] = t[nearer], number
        normals[:, nearer] = -wall.across[:, None]
    for number, solid in enumerate(scene.solids, start=1 + len(scene.walls)):
        where, t, local = _meet(solid, eye, rays)
        nearer = t < depth[where]
        where = where[nearer]
        depth[where], surface[where] = t[nearer], number
        outward = solid.inward.T @ local[:, nearer]
        normals[:, where] = outward / np.maximum(np.sqrt(dot(outward, outward)), 1e-12)
    return depth, surface, normals


def _meet(solid: Solid, origins: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rays that come near a solid, where they meet it, and the normals there in its own coordinates."""
    offsets = solid.centre[:, None] - origins
    where = may_meet(offsets, rays, solid.reach)
    towards = solid.inward @ (offsets if offsets.shape[1] == 1 else offsets[:, where])
    course = solid.inward @ (rays if rays.shape[1] == 1 else rays[:, where])
    t, normals = SHAPES[solid.shape](*np.broadcast_arrays(-towards, course))
    return where, t, normals


def _shade(scene: Scene, points: np.ndarray, bright: np.ndarray) -> None:
    """Set ``bright`` to 0 where a solid is in the way of the light."""
    light = scene.light[:, None]
    for solid in scene.solids:
        here = np.flatnonzero(bright)
        where, t, _ = _meet(solid, points[:, here], light)
        bright[here[where[np.isfinite(t) & (t > 1e-3)]]] = 0


def _paint(material: Material, points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The colours of a surface [3, m]; where a pixel's ``size`` [m] covers many repeats, the texture fades."""
    if material.texture == "plain":
        return np.broadcast_to(material.colours[0][:, None], points.shape)
    places = points * material.frequency + material.shift
    wave = 2 * np.pi * (material.directions @ places)
    if material.texture == "checks":
        mixed = np.floor(places).sum(0) % 2
    elif material.texture == "stripes":
        mixed = (np.sin(wave[0]) > 0).astype(float)
    elif material.texture == "waves":
        mixed = 0.5 + 0.5 * np.sin(wave[0] + 2 * np.sin(wave[1]))
    elif material.texture == "dots":
        mixed = (((places - np.floor(places) - 0.5) ** 2).sum(0) < 0.16).astype(float)
    else:
        mixed = 0.5 + 0.25 * (np.sin(wave[0]) + np.sin(wave[1] * 1.7 + 1))
    keep = np.clip(1.5 - 2 * size * material.frequency, 0, 1)
    mixed = 0.5 + (mixed - 0.5) * keep
    low, high = material.colours[:, :, None]
    return np.asarray(low + (high - low) * mixed)


def _sky(scene: Scene, rays: np.ndarray) -> np.ndarray:
    if rays.shape[1] == 0:
        return rays
    up = rays[1] / np.sqrt(dot(rays, rays))
    low, high = scene.sky[:, :, None]
    wave = scene.clouds.frequency * 4 * (scene.clouds.directions @ (rays / (up + 0.3)))
    cloud = np.clip(np.sin(wave[0] + np.sin(wave[1])), 0, 1) * 0.5
    clear = low + (high - low) * np.clip(up * 2, 0, 1)
    return np.asarray(clear + (1 - clear) * cloud)


def _highlight(scene: Scene, rays: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Blinn's highlight: how nearly the normal halves the way between the light and the eye, to the 24th power."""
    halfway = scene.light[:, None] - rays / np.sqrt(dot(rays, rays))
    cosine = np.maximum(dot(halfway, normals), 0) / np.maximum(np.sqrt(dot(halfway, halfway)), 1e-9)
    squared = cosine * cosine
    eighth = (squared * squared) ** 2
    return np.asarray(eighth**3)


def _exposed(scene: Scene, colours: np.ndarray) -> np.ndarray:
    noise = np.random.Generator(np.random.PCG64(scene.noise_seed)).standard_normal(colours.shape, dtype=np.float32)
    return np.asarray(np.clip(colours * scene.exposure + scene.noise * noise, 0, 1) * 255 + 0.5).astype(np.uint8)


def _classes(scene: Scene) -> np.ndarray:
    """Class of each surface number; the sky's -1 is the last entry."""
    names = ["floor", *["wall"] * len(scene.walls), *(solid.shape for solid in scene.solids), "sky"]
    return np.array([CLASSES.index(name) for name in names], dtype=np.uint8)
