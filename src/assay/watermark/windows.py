"""WinMax: find the part of a text that carries the mark, with a p-value that knows it was searched for."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import SettingError
from .detection import Detection, score_texts
from .kernel import best_window
from .maxima import Tail, bounds_of_maximum, tail_of_maximum
from .ngrams import as_ids
from .schemes.base import BERNOULLI, EXPONENTIAL
from .statistics import Null, log_gamma_tail, normal_tail

if TYPE_CHECKING:
    from .schemes.base import Scheme

LONGEST = {BERNOULLI: 4096, EXPONENTIAL: 256}
"""N-grams up to which "max" looks at every size; longer texts are searched with geometric sizes."""
_RATIO = 1.1


class WindowDetection(Detection):
    """The best window of a text. Its p-value, when first read, is calibrated by simulation.

    Attributes:
        z: the largest z of any window; for exponential scores see ``detect_windows``.
        p_value: chance that any window of text without the mark reaches this z; ``p_error`` is its relative error.
        p_value_normal: the normal tail of z as the official code gives it: no p-value of a maximum. On unmarked
            texts of 200 tokens about one in ten has z > 4.
        green, scored: hits and n-grams of the window.
        start, end: tokens ``ids[start:end]`` are the window, from its first target to its last. ``end`` is exclusive.
        length: n-grams of the text that counted; ``enough`` looks at them.
        sizes: ``"max"``, ``"geometric"`` or the sizes that were searched, as text.
    """

    __slots__ = ("_level", "_sizes", "_tail", "end", "length", "sizes", "start")

    start: int
    end: int
    length: int
    sizes: str
    _level: float
    _sizes: np.ndarray
    _tail: Tail | None

    @property
    def _calibrated(self) -> Tail:
        if self._tail is None:
            null = self._null
            if self.length:
                self._tail = tail_of_maximum(self._level, self.length, self._sizes, null.kind, null.gamma)
            else:
                self._tail = Tail(0.0, 0.0, 0.0, 0.0)
        return self._tail

    @property
    def log_p(self) -> float:
        """Natural logarithm of the calibrated p-value."""
        return self._calibrated.log_p

    @property
    def p_error(self) -> float:
        """Relative standard error of the p-value."""
        return self._calibrated.error

    def enough(self, fpr: float = 1e-6) -> bool:
        """Whether the text is as long as a detection of all of it at ``fpr`` needs; the window may be shorter."""
        return self.length >= self.tokens_needed(fpr)

    def as_dict(self) -> dict[str, Any]:
        """The numbers, without the arrays; reads the p-value."""
        names = ("p_error", "start", "end", "length", "sizes")
        return super().as_dict() | {name: getattr(self, name) for name in names}

    def _at_most(self, fpr: float) -> bool:
        """As for any detection; certain bounds decide most texts without a simulation."""
        if self._tail is None and self.length and 0 < fpr < 1:
            lower, upper = bounds_of_maximum(self._level, self.length, self._sizes, self._null.kind, self._null.gamma)
            if upper <= math.log(fpr) or lower > math.log(fpr):
                return upper <= math.log(fpr)
        return super()._at_most(fpr)

    def __repr__(self) -> str:
        shown = f"z={self.z:.2f}, start={self.start}, end={self.end}, green={self.green}, scored={self.scored}"
        return f"{type(self).__name__}({shown})"


def detect_windows(
    scheme: Scheme,
    ids: Any,
    sizes: str | int | Iterable[int] = "max",
    *,
    unique_ngrams: bool = True,
    strict: bool | None = None,
) -> WindowDetection:
    """Find the window of a text whose z is largest.

    The n-grams that count stand in a row, in order of first occurrence (of those that look the same token up in the
    same list, the first); ``z(a, w)`` is that of those from a to a + w,
    and the window with the largest is taken; of equals the longest, then the earliest. Exponential scores have a
    heavy tail, and single tokens would have the largest z: with them the window with the smallest
    ``P(Gamma(w, 1) >= S)`` is taken, and z is its ``(S - w) / sqrt(w)``. Where one list serves every context, the
    p-value takes hits as independent, though they are drawn without replacement and spread less.

    Args:
        scheme: the keyed rule.
        ids: as for ``detect``.
        sizes: ``"max"``: every size from 1 to all, the whole text included, for texts of up to ``LONGEST`` n-grams, and
            "geometric" for longer ones; ``"geometric"``: sizes a tenth apart, all included; or numbers: 50, "20,50",
            [20, 50]. A number larger than the text stands for the whole text.
        unique_ngrams, strict: as for ``detect``.

    Returns:
        The best window. Cost: O(n · sizes), and as much for a few hundred simulated texts when the p-value is read.

    Raises:
        SettingError: sizes are none of these.

    >>> from assay.watermark import Watermark
    >>> scheme = Watermark("unigram", vocab_size=200, gamma=0.25, key=7).scheme
    >>> green = scheme.rows(np.zeros((1, 0), dtype=np.int64))[0]
    >>> ids = [*np.flatnonzero(~green)[:60], *np.flatnonzero(green)[:20], *np.flatnonzero(~green)[60:120]]
    >>> found = detect_windows(scheme, ids)
    >>> found.start, found.end, found.verdict()
    (60, 80, 'marked')
    """
    null = Null.of(scheme)
    made = score_texts(scheme, [as_ids(ids)], unique_ngrams=unique_ngrams, strict=strict, independent=True)
    places = np.flatnonzero(made.counted)
    length = len(places)
    name, widths = window_sizes(sizes, length, longest=LONGEST[null.kind])
    level, first, size = 0.0, 0, 0
    if length and null.kind == EXPONENTIAL:
        level, first, size = _best_sum(made.values[places], widths)
    elif length:
        level, first, size = best_window(made.hits[places].astype(np.uint8), null.gamma, widths)
    inside = places[first : first + size]
    green = int(made.hits[inside].sum())
    exponential = null.kind == EXPONENTIAL
    score = float(made.values[inside].sum()) if exponential else green
    z = float(null.z(np.array([score]), np.array([size]))[0]) if exponential else level
    normal = float(normal_tail(z)) if length else 1.0
    values = made.values if exponential else None
    numbers = (z, 0.0, normal, score, green, size)
    arrays = (made.hits, made.counted, values)
    found = WindowDetection(null, *numbers, *arrays, scheme.preceding, scheme.settings.payload)
    found.start = int(inside[0]) + scheme.preceding if length else 0
    found.end = int(inside[-1]) + scheme.preceding + 1 if length else 0
    found.length, found.sizes, found._sizes, found._tail = length, name, widths, None
    found._level = level
    return found


def window_sizes(
    sizes: str | int | Iterable[int], length: int, *, longest: int = LONGEST[BERNOULLI]
) -> tuple[str, np.ndarray]:
    """What sizes mean for a text of ``length`` n-grams: their name, and the sizes, ascending, int64.

    >>> window_sizes("20, 50", 30)
    ('20,50', array([20, 30]))
    """
    if isinstance(sizes, str) and sizes.strip() in ("max", "geometric"):
        name = "geometric" if length > longest else sizes.strip()
        widths = np.arange(1, length + 1, dtype=np.int64) if name == "max" else _geometric(length)
        return name, widths
    try:
        one: Any = sizes
        asked = (
            one.split(",") if isinstance(one, str) else list(one) if np.ndim(one) or hasattr(one, "__iter__") else [one]
        )
        numbers = [int(number) for number in asked]
        if not numbers or min(numbers) < 1 or any(float(a) != b for a, b in zip(asked, numbers, strict=True)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise SettingError(
            f"sizes are {sizes!r}; 'max', 'geometric', or whole numbers of at least 1 such as '20,50' are needed."
        ) from None
    name = ",".join(map(str, sorted(set(numbers))))
    return name, np.unique(np.minimum(np.array(numbers, dtype=np.int64), length))[: length and None]


@functools.lru_cache(maxsize=256)
def _geometric(length: int) -> np.ndarray:
    found, size = set(), 1.0
    while size < length:
        found.add(int(size))
        size = max(size * _RATIO, size + 1)
    widths = np.array(sorted(found | {length}) if length else [], dtype=np.int64)
    widths.flags.writeable = False
    return widths


def _best_sum(values: np.ndarray, sizes: np.ndarray) -> tuple[float, int, int]:
    """The window of exponential scores with the smallest tail by itself: its logarithm, start, size."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    starts = np.array([int(np.argmax(total[size:] - total[:-size])) for size in sizes.tolist()])
    logs = log_gamma_tail(total[starts + sizes] - total[starts], sizes)
    best = int(np.argmin(logs))
    return float(logs[best]), int(starts[best]), int(sizes[best])
