"""Queries: the image first, and draws that belong to the record."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import load_data
from assay.core.errors import DataError, SettingError
from assay.membership.queries import PlainQueries, ReadyQueries, chunks, plain_queries

IMAGES = torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_first_query_is_the_image_itself() -> None:
    queries = plain_queries(IMAGES, range(5), 4, augment="crop-flip", seed=3)
    assert queries.shape == (5, 4, 2, 8, 8)
    assert torch.equal(queries[:, 0], IMAGES)
    assert not torch.equal(queries[:, 1], queries[:, 2])


@settings(max_examples=20)
@given(st.permutations(range(5)), st.integers(1, 5), st.integers(2, 6))
def test_a_records_queries_do_not_depend_on_its_neighbours(order: list[int], size: int, count: int) -> None:
    whole = plain_queries(IMAGES, [10 * i for i in range(5)], count, seed=1)
    some = order[:size]
    part = plain_queries(IMAGES[some], [10 * i for i in some], count, seed=1)
    assert torch.equal(part, whole[some])


def test_more_queries_only_add() -> None:
    assert torch.equal(plain_queries(IMAGES, range(5), 6)[:, :3], plain_queries(IMAGES, range(5), 3))


def test_draws_depend_on_seed_and_id() -> None:
    first = plain_queries(IMAGES, range(5), 5, seed=0)
    assert not torch.equal(first, plain_queries(IMAGES, range(5), 5, seed=1))
    assert not torch.equal(first, plain_queries(IMAGES, range(5, 10), 5, seed=0))


def test_a_mirror_is_a_mirror() -> None:
    queries = plain_queries(IMAGES, range(5), 2, augment="mirror")
    assert torch.equal(queries[:, 1], IMAGES.flip(-1))


@pytest.mark.parametrize(("count", "augment"), [(2, "none"), (3, "mirror"), (0, "crop-flip"), (1, "crop_flip")])
def test_what_cannot_be_asked_is_refused(count: int, augment: str) -> None:
    with pytest.raises(SettingError):
        plain_queries(IMAGES, range(5), count, augment=augment)


def test_ids_must_fit_the_images() -> None:
    with pytest.raises(DataError, match="5 images and 4 ids"):
        plain_queries(IMAGES, range(4), 1)


def test_queries_of_data_are_read_in_pieces() -> None:
    data = load_data("digits", limit=11)
    queries = PlainQueries(data, 3, augment="crop-flip", seed=2)
    pieces = [queries.of(rows) for rows in chunks(queries, 9)]
    assert [len(piece) for piece in pieces] == [3, 3, 3, 2]
    whole = plain_queries(data.images(), data.sample_ids.tolist(), 3, seed=2)
    assert torch.equal(torch.cat(pieces), whole)


def test_the_identity_names_everything_an_answer_depends_on() -> None:
    data = load_data("digits", limit=11)
    plain = PlainQueries(data)
    assert plain.identity == PlainQueries(data, seed=5).identity, "without draws the seed changes nothing"
    others = [
        PlainQueries(data.head(10)),
        PlainQueries(data, 2, augment="mirror"),
        PlainQueries(data, 2, augment="crop-flip"),
        PlainQueries(data, 2, augment="crop-flip", seed=1),
        PlainQueries(data, 3, augment="crop-flip"),
    ]
    assert len({plain.identity, *(other.identity for other in others)}) == 6


def test_ready_queries_are_told_apart_by_content() -> None:
    images = np.zeros((2, 3, 1, 4, 4), np.float32)
    changed = images.copy()
    changed[1, 2, 0, 3, 3] = 1
    assert ReadyQueries(images).identity != ReadyQueries(changed).identity
    assert ReadyQueries(changed).of(np.array([1])).shape == (1, 3, 1, 4, 4)
    with pytest.raises(DataError, match=r"\[N, K, C, H, W\]"):
        ReadyQueries(images[0])
