"""Where rays meet five unit solids, in closed form.

A solid of any size, proportion and heading is a unit solid under a linear map M; a ray o + t d
becomes M(o - c) + t M d with the same t, so every solid is met in its own coordinates and t stays
what the camera measures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Meeting = tuple[np.ndarray, np.ndarray]

_SLANT = 5**-0.5
_BOX = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)
_PYRAMID = np.array([[0, -1, 0], [2, 1, 0], [-2, 1, 0], [0, 1, 2], [0, 1, -2]], dtype=float)
_PYRAMID[1:] *= _SLANT
_PYRAMID_OFFSETS = np.array([1, _SLANT, _SLANT, _SLANT, _SLANT])


def sphere(o: np.ndarray, d: np.ndarray) -> Meeting:
    """The ball |p| <= 1. Origins and directions [3, m]; where rays enter [m] (infinite: nowhere), normals [3, m]."""
    near, _ = _roots(dot(d, d), dot(o, d), dot(o, o) - 1)
    near = np.where(near > 0, near, np.inf)
    return near, o + _finite(near) * d


def box(o: np.ndarray, d: np.ndarray) -> Meeting:
    """The cube with sides from -1 to 1; arguments and result as for ``sphere``."""
    return _polyhedron(_BOX, np.ones(6), o, d)


def pyramid(o: np.ndarray, d: np.ndarray) -> Meeting:
    """Base the square y = -1 with sides from -1 to 1, apex (0, 1, 0)."""
    return _polyhedron(_PYRAMID, _PYRAMID_OFFSETS, o, d)


def cylinder(o: np.ndarray, d: np.ndarray) -> Meeting:
    """x^2 + z^2 <= 1 and |y| <= 1."""
    side, _ = _roots(d[0] ** 2 + d[2] ** 2, o[0] * d[0] + o[2] * d[2], o[0] ** 2 + o[2] ** 2 - 1)
    at = o + _finite(side) * d
    side = np.where((side > 0) & (np.abs(at[1]) <= 1), side, np.inf)
    cap, level = _disc(o, d, np.where(d[1] < 0, 1.0, -1.0))
    normal = np.where(cap < side, _upright(level), np.stack([at[0], np.zeros_like(side), at[2]]))
    return np.minimum(side, cap), normal


def cone(o: np.ndarray, d: np.ndarray) -> Meeting:
    """Apex (0, 1, 0), base the disc of radius 1 at y = -1: x^2 + z^2 <= (1 - y)^2 / 4."""
    rest = 1 - o[1]
    a = d[0] ** 2 + d[2] ** 2 - d[1] ** 2 / 4
    b = o[0] * d[0] + o[2] * d[2] + rest * d[1] / 4
    roots = _roots(a, b, o[0] ** 2 + o[2] ** 2 - rest**2 / 4)
    side = np.full(d.shape[1], np.inf)
    for root in roots:
        level = o[1] + _finite(root) * d[1]
        side = np.where((root > 0) & (np.abs(level) <= 1), np.minimum(side, root), side)
    at = o + _finite(side) * d
    base, level = _disc(o, d, np.full(d.shape[1], -1.0))
    normal = np.where(base < side, _upright(level), np.stack([at[0], (1 - at[1]) / 4, at[2]]))
    return np.minimum(side, base), normal


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], Meeting]] = {
    "sphere": sphere,
    "box": box,
    "cylinder": cylinder,
    "cone": cone,
    "pyramid": pyramid,
}
REACH = {"sphere": 1.0, "box": 3**0.5, "cylinder": 2**0.5, "cone": 2**0.5, "pyramid": 3**0.5}


def may_meet(offsets: np.ndarray, d: np.ndarray, reach: float) -> np.ndarray:
    """Positions of the rays that pass a ball of radius ``reach``, whose centre is at ``offsets`` from their origins."""
    along = dot(offsets, d)
    return np.flatnonzero((along > 0) & (along * along >= dot(d, d) * (dot(offsets, offsets) - reach * reach)))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of the columns of [3, m] and [3, m] (or [3, 1])."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _roots(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both roots of a t^2 + 2 b t + c = 0, the smaller first; infinite where there are none."""
    inside = b * b - a * c
    real = (inside >= 0) & (np.abs(a) > 1e-12)
    root = np.sqrt(np.where(real, inside, 0))
    by = np.where(real, a, 1)
    one, two = (-b - root) / by, (-b + root) / by
    return np.where(real, np.minimum(one, two), np.inf), np.where(real, np.maximum(one, two), np.inf)


def _disc(o: np.ndarray, d: np.ndarray, level: np.ndarray) -> Meeting:
    """Where rays meet the unit disc at a height, and that height, which is also the sign of its normal."""
    t = (level - o[1]) / np.where(np.abs(d[1]) > 1e-12, d[1], 1e-12)
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    return np.where((t > 0) & (x * x + z * z <= 1), t, np.inf), level


def _polyhedron(normals: np.ndarray, offsets: np.ndarray, o: np.ndarray, d: np.ndarray) -> Meeting:
    """A ray is in the solid from the last face it enters by to the first it leaves by."""
    facing = normals @ d
    gap = offsets[:, None] - normals @ o
    t = gap / np.where(np.abs(facing) > 1e-12, facing, 1e-12)
    enters = np.where(facing < 0, t, -np.inf)
    last = enters.argmax(0)
    start = enters[last, np.arange(enters.shape[1])]
    end = np.where(facing >= 0, t, np.inf).min(0)
    return np.where((start <= end) & (start > 0), start, np.inf), normals[last].T


def _upright(level: np.ndarray) -> np.ndarray:
    nothing = np.zeros_like(level)
    return np.stack([nothing, level, nothing])


def _finite(t: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(t), t, 0)
