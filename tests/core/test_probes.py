"""The pieces of a measurement check themselves."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from assay.core.artifacts import pack_figure, unpack_figure
from assay.core.errors import InputError
from assay.core.estimates import bootstrap, proportion, quantile
from assay.core.probes import Cost, Figure, Finding, Gallery, Mark, Measurement, Metric, Series


def figure(**changes: object) -> Figure:
    values: dict[str, object] = {
        "name": "curve",
        "title": "Curve",
        "caption": "n = 3",
        "kind": "line",
        "x_label": "budget",
        "y_label": "share",
        "series": (Series(label="robust", x=(0, 1), y=(1, 0.5)),),
    }
    return Figure(**{**values, **changes})  # type: ignore[arg-type]


def test_a_metric_takes_its_interval_from_the_estimate() -> None:
    metric = Metric.from_estimate("clean_accuracy", proportion(8, 10), estimand="share right", stratum="class=3")
    assert metric.value == 0.8
    assert (metric.lo, metric.hi) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert metric.interval == "clopper-pearson 95%"
    assert metric.n == 10
    assert metric.label == "clean_accuracy{class=3}"


def test_ends_that_are_not_known_are_absent() -> None:
    open_end = Metric.from_estimate("median_distance@l2", quantile([0.1, 0.2], 0.5, level=0.9), estimand="median")
    assert (open_end.lo, open_end.hi) == (None, None)
    assert open_end.interval == "order statistics 90%"
    assert Metric.from_estimate("mean", bootstrap([1.0]), estimand="mean").lo is None


def test_the_null_of_json_is_nan_in_a_value() -> None:
    metric = Metric(name="a", estimand="", value=None, lo=None, hi=None, interval="", n=0)  # type: ignore[arg-type]
    assert math.isnan(metric.value)


def test_words_outside_the_lists_are_refused() -> None:
    with pytest.raises(InputError, match=r"Finding\.severity is 'seriuos'.*Did you mean 'serious'"):
        Finding(code="a", severity="seriuos", message="")
    with pytest.raises(InputError, match=r"Metric\.direction is 'up'"):
        Metric(name="a", estimand="", value=1, lo=None, hi=None, interval="", n=1, direction="up")
    with pytest.raises(InputError, match=r"Figure\.kind is 'pie'"):
        figure(kind="pie")
    with pytest.raises(InputError, match=r"Figure\.x_scale is 'logarithmic'"):
        figure(x_scale="logarithmic")
    with pytest.raises(InputError, match=r"Figure\.y_scale is 'lgo'.*Did you mean 'log'"):
        figure(y_scale="lgo")


@pytest.mark.parametrize("name", ["", "../run", "a/b", ".hidden", "a b", "a\n", "x" * 101])
def test_figure_names_are_file_names(name: str) -> None:
    with pytest.raises(InputError, match="it becomes a file name"):
        figure(name=name)


def test_series_hold_as_many_of_each() -> None:
    series = Series(label="a", x=["cat", 2], y=np.array([0.5, 1]), lo=[0, None], hi=None)  # type: ignore[arg-type,list-item]
    assert series.x == ("cat", 2.0)
    assert series.y == (0.5, 1.0)
    assert series.lo is not None
    assert math.isnan(series.lo[1])
    with pytest.raises(InputError, match="2 values of x and 1 of y"):
        Series(label="a", x=(1, 2), y=(1,))
    with pytest.raises(InputError, match="2 values of x and 3 of hi"):
        Series(label="a", x=(1, 2), y=(1, 2), hi=(1, 2, 3))


def test_figures_normalise_their_limits() -> None:
    assert figure(y_limits=[0, 1]).y_limits == (0.0, 1.0)
    assert figure(name="robust_accuracy@linf").name == "robust_accuracy@linf"


def test_costs_add_up_except_memory() -> None:
    first = Cost(seconds=1, forward=2, backward=3, peak_memory_bytes=50)
    assert first + Cost(seconds=2, forward=1, peak_memory_bytes=9) == Cost(
        seconds=3, forward=3, backward=3, peak_memory_bytes=50
    )


def test_galleries_check_their_shapes() -> None:
    pictures = np.zeros((2, 1, 4, 4))
    gallery = Gallery(title="a", caption="", original=pictures, changed=pictures, captions=[{}, {}])
    assert gallery.original.dtype == np.float32
    with pytest.raises(InputError, match="one caption a sample"):
        Gallery(title="a", caption="", original=pictures, changed=pictures, captions=[{}])
    with pytest.raises(InputError, match=r"must be \[k, C, H, W\]"):
        Gallery(title="a", caption="", original=pictures, changed=pictures[:1], captions=[{}, {}])


def test_an_empty_measurement_applies() -> None:
    assert Measurement().not_applicable == ""
    assert Measurement().metrics is not Measurement().metrics


def test_frames_and_marks_survive_the_disk() -> None:
    given = figure(
        x_limits=(-1, 2),
        y_scale="log",
        marks=[Mark(axis="y", value=0, label="no speed")],
        sequence="speed",
        moment="step 4",
    )
    assert unpack_figure(pack_figure(given)["figures/curve.json"]) == given
    assert given.x_limits == (-1.0, 2.0)


def test_a_figure_of_an_older_run_stands_alone() -> None:
    content = json.loads(pack_figure(figure())["figures/curve.json"])
    for name in ("x_limits", "y_scale", "marks", "sequence", "moment"):
        del content[name]
    assert unpack_figure(json.dumps(content).encode()) == figure()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sequence": "../x"}, r"Figure\.sequence is '\.\./x'"),
        ({"x_limits": (1, 0)}, r"Figure\.x_limits is \(1\.0, 0\.0\)"),
        ({"y_limits": (0, math.inf)}, r"Figure\.y_limits"),
        ({"y_scale": "log", "y_limits": (0, 1)}, "both must be above 0"),
        ({"kind": "bar", "y_scale": "log"}, "no 0 to stand on: use one of line, cdf, scatter"),
        ({"kind": "bar", "x_limits": (0, 1)}, "bars of named things"),
        ({"kind": "stacked", "marks": (Mark(axis="x", value=0),)}, "bars of named things"),
        ({"kind": "stacked", "series": (Series(label="a", x=("b",), y=(-0.1,)),)}, "values below 0"),
    ],
)
def test_figures_that_cannot_be_drawn(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        figure(**changes)


def test_shares_may_miss_zero_by_rounding() -> None:
    assert figure(kind="stacked", series=(Series(label="a", x=("b",), y=(-1e-17,)),)).kind == "stacked"


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_mark_has_a_place(value: float | None) -> None:
    with pytest.raises(InputError, match=r"Mark\.value"):
        Mark(axis="x", value=value)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Mark\.axis is 'z'"):
        Mark(axis="z", value=0)
