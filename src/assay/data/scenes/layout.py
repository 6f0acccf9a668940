"""What is in a scene and where, drawn from its seed and index alone.

x points right, y up, z forward; the camera stands at (0, eye, 0); lengths are metres. The main object
is drawn first and names the class of the picture. The others are smaller in the picture, stand apart, and
hide at most an edge of it. Colours, light and sizes are drawn without regard to shapes; of the textures, each
shape has one that it bears more often than others, as things in photographs do. Haze grows with distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...core.seeds import seed
from .shapes import REACH, SHAPES

KINDS = tuple(SHAPES)
TEXTURES = ("plain", "checks", "stripes", "waves", "dots", "blotches")
USUAL = {"sphere": "dots", "box": "checks", "cylinder": "stripes", "cone": "waves", "pyramid": "blotches"}
USUALLY = 0.6
_TRIES = 8


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Args:
        texture: one of ``TEXTURES``.
        colours: [2, 3], what the texture mixes.
        frequency: repeats a metre.
        directions: [2, 3], of stripes and waves.
        shift: [3, 1], where the pattern starts.
        gloss: strength of the highlight.
    """

    texture: str
    colours: np.ndarray
    frequency: float
    directions: np.ndarray
    shift: np.ndarray
    gloss: float


@dataclass(frozen=True)
class Solid:
    """A unit solid of a shape, put into the scene: p is inside where ``inward @ (p - centre)`` is."""

    shape: str
    centre: np.ndarray
    inward: np.ndarray
    material: Material

    @property
    def reach(self) -> float:
        """How far the solid reaches from its centre, at most."""
        return REACH[self.shape] / float(np.sqrt((self.inward * self.inward).sum(1).min()))


@dataclass(frozen=True)
class Wall:
    """An upright plane facing the camera: points p with ``across . p = distance``, up to a height."""

    across: np.ndarray
    distance: float
    height: float
    material: Material


@dataclass(frozen=True)
class Scene:
    """Everything a picture depends on, besides its size.

    Args:
        main: the shape of the main object, the class of the picture.
        rotation: [3, 3], columns are the camera's right, up and forward.
        slope: tangent of half the angle of view, across the shorter side.
        light: [3], towards the light.
        sky: [2, 3], colours at the horizon and above.
        haze: [3], the colour that things take on with distance.
        density: of the haze, a metre: after t metres exp(-density t) of a colour is left.
    """

    main: str
    eye: float
    rotation: np.ndarray
    slope: float
    floor: Material
    walls: tuple[Wall, ...]
    solids: tuple[Solid, ...]
    light: np.ndarray
    light_colour: np.ndarray
    ambient: float
    sky: np.ndarray
    haze: np.ndarray
    density: float
    clouds: Material
    exposure: float
    noise: float
    noise_seed: int


def main_shape(root: int, index: int) -> str:
    """The class of a scene, without drawing the rest of it."""
    return KINDS[int(_stream(root, index).integers(len(KINDS)))]


def draw(root: int, index: int) -> Scene:
    """The scene of an index."""
    rng = _stream(root, index)
    main = KINDS[int(rng.integers(len(KINDS)))]
    eye, slope = rng.uniform(1.3, 1.7), math.tan(math.radians(rng.uniform(50, 60)) / 2)
    away, share = _spread(rng, 1.8, 8), rng.uniform(0.28, 0.5)
    bearing = rng.uniform(-0.45, 0.45) * slope
    radius = share * slope * away
    solid = _solid(rng, main, bearing * away, away, radius)
    aim = math.atan2(eye - solid.centre[1], away) - math.atan(rng.uniform(-0.35, 0.35) * slope)
    walls, room = _walls(rng, solid.centre, radius)
    solids, places = [solid], [(bearing * away, away, radius)]
    for _ in range(int(rng.integers(1, 6))):
        if (place := _free_place(rng, slope, room, places, bearing, share * slope)) is not None:
            places.append(place)
            solids.append(_solid(rng, KINDS[int(rng.integers(len(KINDS)))], *place))
    high, turn = math.radians(rng.uniform(25, 75)), rng.uniform(0, 2 * math.pi)
    light = np.array([math.cos(high) * math.cos(turn), math.sin(high), math.cos(high) * math.sin(turn)])
    return Scene(
        main=main,
        eye=eye,
        rotation=_camera(aim, math.radians(rng.uniform(-4, 4))),
        slope=slope,
        floor=_material(rng, _spread(rng, 0.4, 2)),
        walls=walls,
        solids=tuple(solids),
        light=light,
        light_colour=1 + rng.uniform(-0.2, 0.2, 3),
        ambient=rng.uniform(0.3, 0.6),
        sky=np.clip(rng.uniform(0.35, 1, (2, 3)) + np.array([[0.1, 0.1, 0.1], [-0.25, -0.1, 0.1]]), 0, 1),
        haze=rng.uniform(0.55, 0.95) + rng.uniform(-0.08, 0.08, 3),
        density=rng.uniform(0.06, 0.09),
        clouds=_material(rng, rng.uniform(1, 3)),
        exposure=rng.uniform(0.75, 1.25),
        noise=rng.uniform(0, 0.03),
        noise_seed=int(rng.integers(2**62)),
    )


def _stream(root: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed(root, "scene", index)))


def _spread(rng: np.random.Generator, low: float, high: float) -> float:
    """Evenly between two numbers on a logarithmic scale."""
    return low * (high / low) ** rng.random()


def _camera(down: float, roll: float) -> np.ndarray:
    s, c = math.sin(down), math.cos(down)
    level = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return level @ np.array(
        [[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]], dtype=float
    )


def _material(rng: np.random.Generator, frequency: float, usual: str | None = None) -> Material:
    """A surface; where a texture is usual for it, it has that one more often."""
    colours = rng.uniform(0.08, 1, (2, 3))
    if rng.random() < 0.3:
        colours[:] = colours.mean(1, keepdims=True)
    directions = rng.normal(size=(2, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
    if usual is not None and rng.random() < USUALLY:
        texture = usual
    return Material(
        texture=texture,
        colours=colours,
        frequency=frequency,
        directions=directions,
        shift=rng.random((3, 1)),
        gloss=rng.uniform(0, 0.6) if rng.random() < 0.4 else 0.0,
    )


def _solid(rng: np.random.Generator, shape: str, x: float, z: float, radius: float) -> Solid:
    """A solid on the floor, upright, or lying where a cylinder may lie."""
    sizes = radius * rng.uniform([0.75, 0.75, 0.75], [1.1, 1.25, 1.1])
    turn = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(turn), math.sin(turn)
    heading = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    lies = rng.random() < 0.4
    height = sizes[1]
    if lies and shape == "cylinder":
        heading = heading @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=float)
        height = sizes[0]
    material = _material(rng, _spread(rng, 1, 4) / radius / 2, USUAL[shape])
    return Solid(shape, np.array([x, height, z]), heading.T / sizes[:, None], material)


def _walls(
    rng: np.random.Generator, centre: np.ndarray, radius: float
) -> tuple[tuple[Wall, ...], tuple[np.ndarray, np.ndarray]]:
    """The walls of a room, of a corner, one wall with sky above, or none; with the limits of the floor between them."""
    turn = math.radians(rng.uniform(-30, 30))
    along = np.array([math.cos(turn), 0, math.sin(turn)])
    back = np.array([-math.sin(turn), 0, math.cos(turn)])
    x, z, clear = float(along @ centre), float(back @ centre), 1.6 * radius
    gaps = [_spread(rng, 0.2, 6) for _ in range(3)]
    materials = [_material(rng, _spread(rng, 0.4, 2)) for _ in range(3)]
    walls = [
        Wall(back, z + clear + gaps[0], np.inf, materials[0]),
        Wall(along, max(x + clear, 0.6) + gaps[1], np.inf, materials[1]),
        Wall(-along, max(clear - x, 0.6) + gaps[2], np.inf, materials[2]),
    ]
    kind = rng.random()
    low = rng.uniform(0.6, 3.5)
    if kind < 0.35:
        chosen = walls
    elif kind < 0.55:
        chosen = [walls[0], walls[1 + int(rng.integers(2))]]
    elif kind < 0.8:
        chosen = [Wall(back, walls[0].distance, low, materials[0])]
    else:
        chosen = []
    normals = np.array([wall.across for wall in chosen]).reshape(-1, 3)
    return tuple(chosen), (normals, np.array([wall.distance for wall in chosen]))


def _free_place(
    rng: np.random.Generator,
    slope: float,
    room: tuple[np.ndarray, np.ndarray],
    places: list[tuple[float, float, float]],
    bearing: float,
    half: float,
) -> tuple[float, float, float] | None:
    """A place (x, z, radius) for one more object, or ``None`` after a few tries."""
    normals, limits = room
    _, main_z, main_radius = places[0]
    for _ in range(_TRIES):
        away, side, size = _spread(rng, 1.6, 14), rng.uniform(-1, 1) * slope, rng.uniform(0.08, 0.24) * slope
        x, z, radius = side * away, away, size * away
        if (normals @ np.array([x, 0, z]) + 1.6 * radius > limits).any():
            continue
        if any(math.hypot(x - u, z - w) < 1.6 * (radius + r) for u, w, r in places):
            continue
        if away < main_z + main_radius and abs(side - bearing) < 0.8 * (half + size):
            continue
        return x, z, radius
    return None
