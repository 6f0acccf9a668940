"""Files of answers and scores: what is read, and that nothing in them can run, flood the memory or be misread."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from assay.core.errors import DataError, InputError
from assay.membership.files import read_precomputed, read_target_answers
from assay.membership.tables import numbers, open_table

M, N, K, C = 4, 6, 2, 3


def logits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    weights = np.exp(values - values.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def answers(**changes: Any) -> dict[str, Any]:
    """A whole file of answers, with some arrays replaced; None leaves one out."""
    whole = {
        "reference_logits": logits(M, N, K, C),
        "in_mask": (np.arange(M)[:, None] + np.arange(N)) % 2 == 0,
        "target_logits": logits(N, K, C, seed=1),
        "labels": np.arange(N) % C,
        "member": np.arange(N) < 3,
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def save(path: Path, **content: Any) -> Path:
    np.savez(path, **content)
    return path


def test_answers(tmp_path: Path) -> None:
    more = {
        "groups": np.array(["a", "b"] * 3),
        "class_names": np.array(["x", "y", "z"]),
        "sample_ids": np.arange(N) * 7,
    }
    found = read_precomputed(save(tmp_path / "a.npz", **answers(), **more))
    assert (found.kind, found.name, len(found)) == ("logits", "a.npz", N)
    assert found.answers is not None
    assert found.answers.models == M
    np.testing.assert_array_equal(found.answers.target, logits(N, K, C, seed=1))
    np.testing.assert_array_equal(found.member, np.arange(N) < 3)
    assert found.class_names == ("x", "y", "z")
    assert found.groups is not None
    assert found.groups.tolist() == ["a", "b"] * 3
    assert found.sample_ids is not None
    assert found.sample_ids.tolist() == [0, 7, 14, 21, 28, 35]


def test_probabilities_have_the_confidence_of_their_logits(tmp_path: Path) -> None:
    plain = read_precomputed(save(tmp_path / "a.npz", **answers())).answers
    parts = {
        "reference_probabilities": softmax(logits(M, N, K, C)),
        "target_probabilities": softmax(logits(N, K, C, seed=1)),
    }
    left_out = {"reference_logits": None, "target_logits": None}
    found = read_precomputed(save(tmp_path / "b.npz", **answers(**left_out, **parts)))
    assert found.kind == "probabilities"
    assert plain is not None
    assert found.answers is not None
    np.testing.assert_allclose(found.answers.signal().target, plain.signal().target, atol=1e-4)
    np.testing.assert_allclose(found.answers.signal().reference, plain.signal().reference, atol=1e-4)


def test_predictions(tmp_path: Path) -> None:
    parts = {
        "reference_predictions": logits(M, N, C).argmax(-1),
        "target_predictions": np.arange(N) % C,
        "reference_logits": None,
        "target_logits": None,
    }
    found = read_precomputed(save(tmp_path / "a.npz", **answers(**parts)))
    assert found.kind == "predictions"
    assert found.answers is not None
    np.testing.assert_array_equal(found.answers.signal("correct").target[:, 0], 1.0)


def test_a_population(tmp_path: Path) -> None:
    more = {
        "population_reference_logits": logits(M, 5, K, C),
        "population_target_logits": logits(5, K, C),
        "population_labels": np.zeros(5),
    }
    found = read_precomputed(save(tmp_path / "a.npz", **answers(), **more)).answers
    assert found is not None
    assert found.population is not None
    assert len(found.population) == 5
    with pytest.raises(DataError, match=r"a\.npz.*population"):
        read_precomputed(save(tmp_path / "a.npz", **answers(), population_labels=np.zeros(5)))


def test_the_truth_may_be_elsewhere_or_missing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **answers(member=None), seen=np.array([1, 0, 0, 1, 0, 1]))
    assert read_precomputed(path).member is None
    assert read_precomputed(path, member="seen").member.tolist() == [True, False, False, True, False, True]  # type: ignore[union-attr]
    (tmp_path / "truth.csv").write_text("member\n" + "\n".join(["IN", "out"] * 3))
    assert read_precomputed(path, member=str(tmp_path / "truth.csv")).member.tolist() == [True, False] * 3  # type: ignore[union-attr]
    with pytest.raises(DataError, match="Did you mean 'seen'"):
        read_precomputed(path, member="sen")
    (tmp_path / "short.csv").write_text("member\n1\n0\n")
    with pytest.raises(DataError, match="member tells of 2 records, and there are 6"):
        read_precomputed(path, member=str(tmp_path / "short.csv"))


def test_scores_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("id,label,member,lira,rmia,note\n10,1,true,2.5,1,a\n11,0,false,-1e3,0.5,b\n", encoding="utf-8-sig")
    found = read_precomputed(path)
    assert (found.kind, list(found.scores), found.answers) == ("scores", ["lira", "rmia"], None)
    np.testing.assert_array_equal(found.scores["lira"], [2.5, -1000])
    assert found.member is not None
    assert found.member.tolist() == [True, False]
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    assert found.sample_ids is not None
    assert found.sample_ids.tolist() == [10, 11]


def test_scores_in_an_archive(tmp_path: Path) -> None:
    path = save(tmp_path / "s.npz", scores=logits(N), member=np.arange(N) < 3)
    assert list(read_precomputed(path).scores) == ["scores"]
    with pytest.raises(DataError, match="different lengths"):
        read_precomputed(save(tmp_path / "s.npz", a=logits(3), b=logits(4)))
    with pytest.raises(DataError, match=r"shape \[6, 2\]"):
        read_precomputed(save(tmp_path / "s.npz", a=logits(6, 2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_logits": None}, "lacks 'target_logits'"),
        ({"in_mask": None}, "lacks 'in_mask'"),
        ({"in_mask": np.full((M, N), 2)}, "holds '2'"),
        ({"in_mask": np.zeros((M, N + 1))}, "mask"),
        ({"labels": np.full(N, C)}, "labels"),
        ({"labels": np.full(N, -1)}, "class numbers"),
        ({"labels": np.full(N, 0.5)}, "class numbers"),
        ({"labels": np.array(["a"] * N)}, "numbers are needed"),
        ({"target_logits": logits(N, K, C + 1)}, "a.npz"),
        ({"reference_logits": logits(M, N + 1, K, C)}, "a.npz"),
        ({"reference_logits": softmax(logits(M, N, K, C)), "target_logits": softmax(logits(N, K, C))}, "probabilities"),
        ({"target_probabilities": np.zeros((N, C))}, "two kinds"),
        ({"member": np.ones(N + 1)}, "tells of 7 records"),
        ({"reference_logits": None, "target_logits": None, "reference_logit": logits(M, N, K, C)}, "Did you mean"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"a\.npz") as caught:
        read_precomputed(save(tmp_path / "a.npz", **answers(**changes)))
    assert message in str(caught.value)


class Bomb:
    """Unpickling it raises."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('unpickled')",))


def raw(path: Path, header: bytes, content: bytes = b"", name: str = "target_logits.npy") -> Path:
    """An archive whose one member has this npy header and content."""
    padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + content)
    return path


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
        archive.writestr("scores.npy", stream.getvalue())
    with pytest.raises(DataError, match="pickle can run any code"):
        read_precomputed(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="no npz archive"):
        read_precomputed(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000), }", "8,000,000,000,000,000,000"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", "cannot be"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", "24 bytes, and there are 0"),
        (b"{'descr': '|V8', 'fortran_order': False, 'shape': (0,), }", "numbers or text"),
        (b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (0,), }", "numbers or text"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "pickle"),
        (b"{'descr': '<f8', 'fortran_order': False, 'shape': 'x', }", "cannot be read"),
        (b"__import__('os')", "cannot be read"),
        (b"{" * 3000, "cannot be read"),
        (b" " * 60000, "cannot be read"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_precomputed(raw(tmp_path / "a.npz", header, name="scores.npy"))
    assert message in str(caught.value)


def test_more_than_the_memory_is_refused_before_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 100

    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory)
    with pytest.raises(DataError, match="GB of memory"):
        read_precomputed(save(tmp_path / "a.npz", **answers()))


@given(arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)), st.booleans(), st.booleans())
def test_arrays_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, fortran: bool, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.npz"
    values = np.asfortranarray(values) if fortran else values
    (np.savez_compressed if packed else np.savez)(path, x=values)
    with open_table(path) as table:
        np.testing.assert_array_equal(numbers(table, "x"), values)


@given(st.binary(max_size=400), st.integers(0, 10**6))
def test_damage_is_an_error_or_does_no_harm(tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int) -> None:
    folder = tmp_path_factory.mktemp("a")
    content = bytearray(save(folder / "a.npz", **answers()).read_bytes())
    place %= len(content)
    content[place : place + len(noise)] = noise
    (folder / "a.npz").write_bytes(content)
    with contextlib.suppress(InputError):
        assert len(read_precomputed(folder / "a.npz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header"),
        ("score\n", "no rows"),
        ("a,a\n1,2\n", "two columns 'a'"),
        ("a,b\n1\n", "line 2: 1 fields"),
        ("a,member\n1,perhaps\n", "'perhaps'"),
        ("member\n1\n0\n", "neither answers nor scores"),
        ('a\n"1\n', "cannot be read"),
        ("a\n\x00\n", "neither answers nor scores"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_precomputed(tmp_path / "a.csv")
    assert message in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        read_precomputed(tmp_path / "a.npz")
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"suffix '\.pkl'"):
        read_precomputed(tmp_path / "a.pkl")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_precomputed(tmp_path / "a.csv")


def test_answers_of_a_black_box(tmp_path: Path) -> None:
    values = logits(5, C)
    whole = read_target_answers(save(tmp_path / "a.npz", logits=values), 3, 2)
    parts = read_target_answers(save(tmp_path / "b.npz", member_logits=values[:3], nonmember_logits=values[3:]), 3, 2)
    rows = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    (tmp_path / "c.csv").write_text(f"logit_0,logit_1,logit_2\n{rows}\n")
    table = read_target_answers(tmp_path / "c.csv", 3, 2)
    for found in (whole, parts, table):
        assert found.kind == "logits"
        np.testing.assert_array_equal(found.members, values[:3])
        np.testing.assert_array_equal(found.nonmembers, values[3:])


def test_predicted_classes_of_a_black_box(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label\n0\n1\n2\n")
    found = read_target_answers(tmp_path / "a.csv", 2, 1)
    assert found.kind == "labels"
    assert (found.members.tolist(), found.nonmembers.tolist()) == ([0, 1], [2])
    assert found.members.dtype == np.int64


def test_answers_of_a_black_box_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 records, and 6 are needed: 3 of --data, then 3 of --nonmembers"):
        read_target_answers(save(tmp_path / "a.npz", logits=logits(5, C)), 3, 3)
    parts = {"member_logits": logits(3, C), "nonmember_logits": logits(4, C)}
    with pytest.raises(DataError, match="4 non-members, and 3 of their records"):
        read_target_answers(save(tmp_path / "a.npz", **parts), 3, 3)
    with pytest.raises(DataError, match="holds no answers"):
        read_target_answers(save(tmp_path / "a.npz", outputs=logits(6, C)), 3, 3)
    (tmp_path / "a.csv").write_text("logit_0,logit_2\n1,2\n")
    with pytest.raises(DataError, match="logit_0 to logit_1"):
        read_target_answers(tmp_path / "a.csv", 1, 0)
