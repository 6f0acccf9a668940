from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.studies.reading import read_yaml, read_yaml_file

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text("ab 1/-", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    import yaml

    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    assert read_yaml(yaml.dump(value, Dumper=NoAliases), where="x") == value


@given(st.text(max_size=60) | st.text("{}[]:-&*!|>%@`'\"#,? \n\tab0x", max_size=40))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    sentence = "suite.yaml"
    try:
        read_yaml(text, where="suite.yaml")
    except SettingError as error:
        sentence = str(error)
    assert sentence.startswith("suite.yaml")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 1\nb: 2\na: 3", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("a: &x [1]\nb: *x", "anchors"),
        ("a: *x", "anchors"),
        ("a: [1, 2", "line 1"),
        ("when: 2001-99-99", "quotes"),
        ("n: 0x" + "f" * 5000, "2\\*\\*63"),
        ("n: " + "9" * 5000, "digits"),
        ("!!python/object/apply:os.system ['true']", "python/object"),
        ("[" * 3000, "deeply|line"),
        ("\x00", "not valid"),
    ],
)
def test_refusals(text: str, word: str) -> None:
    with pytest.raises(SettingError, match=word):
        read_yaml(text, where="suite.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="Check the path"):
        read_yaml_file(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match="UTF-8"):
        read_yaml_file(tmp_path / "binary.yaml")
    (tmp_path / "large.yaml").write_text("#" * 1_000_001)
    with pytest.raises(SettingError, match="bytes"):
        read_yaml_file(tmp_path / "large.yaml")
