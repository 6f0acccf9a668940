"""Lazy packages."""

from __future__ import annotations

import sys
import types

import pytest

from assay.core.lazy import lazy


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    outer = types.ModuleType("lazy_outer")
    outer.__path__ = []
    inner = types.ModuleType("lazy_outer.inner")
    inner.thing = 42  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lazy_outer", outer)
    monkeypatch.setitem(sys.modules, "lazy_outer.inner", inner)
    outer.__getattr__, outer.__dir__ = lazy("lazy_outer", {"thing": ".inner"})  # type: ignore[method-assign]
    return outer


def test_a_name_is_found_when_it_is_used(package: types.ModuleType) -> None:
    assert package.thing == 42
    assert dir(package) == ["thing"]


def test_an_unknown_name_is_an_attribute_error_with_a_hint(package: types.ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'thin'.*Did you mean 'thing'"):
        _ = package.thin
    assert not hasattr(package, "__wrapped__")
