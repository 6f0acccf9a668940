"""Named seeds: the same everywhere, different for every purpose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assay.core.seeds import seed

names = st.lists(st.text(max_size=6) | st.integers(), max_size=4)


@given(st.integers(), names)
def test_seeds_are_repeatable_and_fit_63_bits(root: int, path: list[str | int]) -> None:
    assert seed(root, *path) == seed(root, *path)
    assert 0 <= seed(root, *path) < 2**63


@given(st.tuples(st.integers(), names), st.tuples(st.integers(), names))
def test_different_purposes_have_different_streams(first: tuple[int, list], second: tuple[int, list]) -> None:
    assert (seed(first[0], *first[1]) == seed(second[0], *second[1])) is (first == second)


def test_streams_never_change_between_versions() -> None:
    assert seed(0) == 6148773199958884930
    assert seed(0, "apgd", 3, 1) == 1206343757413716740


def test_names_are_kept_apart() -> None:
    found = {seed(0, "a", "b"), seed(0, "ab"), seed(0, "a", 1), seed(0, "a", "1"), seed(0, "a1"), seed(0, "b", "a")}
    assert len(found) == 6


def test_bits_are_balanced() -> None:
    ones = [bin(seed(0, "balance", i)).count("1") for i in range(2000)]
    assert abs(sum(ones) / (2000 * 63) - 0.5) < 0.01
