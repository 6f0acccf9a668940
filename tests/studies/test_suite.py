from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError, SettingError
from assay.studies.suite import built_in_suites, load_suite, parse_suite, parse_suite_text

GOOD = """
name: mine
data: {limit: 20, split: test}
seed: 3
probes:
  - clean-accuracy
  - calibration: {bins: 5}
claims:
  - clean_accuracy >= 0.5
  - {claim: "expected_calibration_error <= 1/2", confident: true}
"""


def test_a_suite_is_resolved() -> None:
    suite = parse_suite_text(GOOD)
    assert (suite.name, suite.seed, suite.data.limit, suite.data.split) == ("mine", 3, 20, "test")
    assert [probe.card.name for probe in suite.probes] == ["clean-accuracy", "calibration"]
    assert suite.probes[1].given == {"bins": 5}
    assert suite.as_dict()["probes"][1]["calibration"]["resamples"] == 2000
    assert [claim.confident for claim in suite.claims] == [False, True]
    assert suite.claims[1].threshold == 0.5


def test_what_a_suite_resolves_to_is_a_suite_again() -> None:
    resolved = parse_suite_text(GOOD).as_dict()
    assert parse_suite(json.loads(json.dumps(resolved)), where="x").as_dict() == resolved


def test_built_in_suites_load() -> None:
    assert built_in_suites() == ["quick", "standard"]
    for name in built_in_suites():
        suite = load_suite(name)
        assert suite.name == name
        assert suite.claims == ()
        assert suite.description.endswith(".")


def test_a_path_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_suite(path).name == "mine"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "mapping"),
        ("[]", "mapping"),
        ("probes: []", "no list of probes"),
        ("probes: clean-accuracy", "no list of probes"),
        ("probes: [clean-acuracy]", "Did you mean 'clean-accuracy'"),
        ("probes: [{calibration: {bin: 5}}]", "Did you mean 'bins'"),
        ("probes: [{calibration: {bins: 0}}]", "at least 1"),
        ("probes: [{calibration: {bins: many}}]", "number"),
        ("probes: [{calibration: 5}]", "mapping"),
        ("probes: [{calibration: {}, clean-accuracy: {}}]", "name of a probe"),
        ("probes: [7]", "name of a probe"),
        ("probes: [standard]", "no probe named"),
        ("probes: [calibration, calibration: {bins: 15}]", "no list|not valid|twice"),
        ("probes: [calibration, {calibration: {bins: 15}}]", "twice"),
        ("probe: [calibration]", "Did you mean 'probes'"),
        ("probes: [calibration]\nseed: -1", "seed"),
        ("probes: [calibration]\nseed: 1.5", "whole number"),
        ("probes: [calibration]\nname: 5", "text"),
        ("probes: [calibration]\ndata: {limits: 5}", "Did you mean 'limit'"),
        ("probes: [calibration]\ndata: {limit: 0}", "at least 1"),
        ("probes: [calibration]\nclaims: clean_accuracy >= 0.9", "list"),
        ("probes: [calibration]\nclaims: [clean_accuracy is good]", "cannot be read"),
        ("probes: [calibration]\n1: 2", "mapping"),
    ],
)
def test_mistakes_are_named(text: str, word: str) -> None:
    with pytest.raises(SettingError, match=word):
        parse_suite_text(text)


def test_an_unknown_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="Did you mean 'standard'"):
        load_suite("standrad")
    with pytest.raises(SettingError, match="cannot be read"):
        load_suite(tmp_path)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["clean-accuracy", "calibration", "robust-accuracy", "linf", "8/255", "1/0", "clean_accuracy >= 0.9"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "data", "seed", "probes", "claims", "limit", "calibration", "robust-accuracy", "bins", "eps"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(anything)
def test_any_value_is_a_suite_or_an_input_error(value: Any) -> None:
    with_probes = {"probes": [{"calibration": value}], "claims": value} if not isinstance(value, dict) else value
    for candidate in (value, with_probes, {"probes": ["calibration"], "data": value}, {"probes": value}):
        with contextlib.suppress(InputError):
            assert parse_suite(candidate, where="x").probes
