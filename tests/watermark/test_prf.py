"""The official table of pseudo-random functions, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark import hash_int, prf
from assay.watermark.hashing import hash_table
from assay.watermark.seeding import MODULUS, seeds
from assay.watermark.settings import PRFS

from . import reference

names = st.sampled_from(PRFS)
keys = st.one_of(
    st.integers(1, 2**64 - 1), st.integers(1, 2**40), st.sampled_from([1, 15485863, 2**32, 2**63, 2**63 - 1])
)
tokens = st.one_of(st.integers(0, 300_000), st.integers(0, 2**63 - 1))
contexts = st.lists(tokens, min_size=2, max_size=8)


@given(names, contexts, keys)
@settings(max_examples=300)
@example("anchored_minhash_prf", [1, 2, 3, 4], 2**63)
@example("additive_prf", [2**63 - 1, 1], 2**64 - 1)
@example("noncomm_prf", [7, 0, 7], 2**63 + 5)
def test_a_value_is_that_of_the_table(name: str, context: list[int], key: int) -> None:
    assert prf(name, context, key) == reference.value(name, context, key)


@pytest.mark.parametrize("name", PRFS)
def test_one_id_is_enough_but_for_pairs(name: str) -> None:
    if name == "minskipgram_prf":
        with pytest.raises(SettingError, match="at least 2"):
            prf(name, [5], 3)
    else:
        assert prf(name, [5], 3) == reference.value(name, [5], 3)
    with pytest.raises(SettingError, match="0 ids"):
        prf(name, [], 3)


@given(names, st.integers(2, 8), st.integers(0, 40), keys, st.integers(0, 2**32), st.booleans())
@settings(max_examples=200)
def test_seeds_of_many_contexts_are_the_values_reduced(
    name: str, width: int, rows: int, key: int, seed: int, long: bool
) -> None:
    ids = np.random.default_rng(seed).integers(0, 2**63 if long else 200_000, size=(rows, width))
    expected = [prf(name, row, key) % MODULUS for row in ids.tolist()]
    found = seeds(name, ids, key)
    assert found.dtype == np.uint64
    assert found.tolist() == expected


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6), keys)
@example([-(2**63), -1, 0, 1, 2**63 - 1], 2**64 - 1)
@example([-(2**63)], 2**63)
@example([2**32 - 1, 2**32, 2**32 + 1, -(2**32) - 1], 2**32 + 1)
def test_products_without_wrap_are_reduced_like_whole_numbers(values: list[int], key: int) -> None:
    column = np.array(values, dtype=np.int64)[:, None]
    assert seeds("minfunc_prf", column, key).tolist() == [key * value % MODULUS for value in values]


def test_a_product_that_is_a_multiple_of_the_modulus_seeds_with_0() -> None:
    third = MODULUS // 3
    assert seeds("additive_prf", np.array([[3], [-3], [0]]), third).tolist() == [0, 0, 0]


@given(st.integers(-(2**70), 2**70))
def test_the_hash_is_a_fixed_permutation(x: int) -> None:
    assert hash_int(x) == int(reference.table(2971215073)[x % 1_000_003]) + 1


def test_the_hash_of_arrays_keeps_their_shape() -> None:
    x = np.array([[0, 1, -1], [1_000_003, 5, 2**62]])
    assert hash_int(x).tolist() == [[hash_int(int(value)) for value in row] for row in x]
    assert hash_int(torch.tensor([3, 4])).tolist() == [hash_int(3), hash_int(4)]
    assert hash_int(torch.tensor(3)) == hash_int(3)
    with pytest.raises(DataError, match="whole numbers"):
        hash_int(1.5)  # type: ignore[call-overload]


def test_the_table_is_a_permutation_from_1_and_cannot_be_changed() -> None:
    table = hash_table(2971215073)
    assert np.array_equal(np.sort(table), np.arange(1, 1_000_004))
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1


def test_names_without_their_ending_are_understood_and_others_refused() -> None:
    assert prf("minhash", [1, 2], 9) == prf("minhash_prf", [1, 2], 9)
    with pytest.raises(SettingError, match="no PRF 'minhsh'"):
        prf("minhsh", [1], 9)


@pytest.mark.parametrize("key", [0, -1, 2**64, 1.5, "7654321", True, None])
def test_keys_that_are_not_allowed_are_not_shown(key: object) -> None:
    with pytest.raises(SettingError, match="key") as caught:
        prf("additive", [1], key)  # type: ignore[arg-type]
    assert "7654321" not in str(caught.value)
    assert str(2**64) not in str(caught.value)
