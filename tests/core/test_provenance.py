"""Where a result comes from, without saying more than needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.core import provenance


def test_the_environment_is_plain_and_names_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("API_KEY", "secret-of-the-user")
    found = provenance.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["numpy"] == np.__version__
    assert found["threads"] == {"MKL_NUM_THREADS": "2"}
    text = json.dumps(found)
    for private in ("secret-of-the-user", os.path.expanduser("~") + "/", os.getcwd()):
        assert private not in text


def test_the_device_is_named_only_if_torch_is_loaded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    found = provenance.environment()
    assert found["device"]
    assert found["flags"]["torch_threads"] == torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        assert "device" not in provenance.environment()
        assert "torch" not in sys.modules


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout whose only file stands for the installed module."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed, so there is no checkout to tell")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    module = tmp_path / "provenance.py"
    module.write_text("first\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    provenance._code.cache_clear()
    return module


def commit(module: Path) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "add", module.name], cwd=module.parent, check=True)
    subprocess.run(["git", *who, "commit", "-q", "-m", "first"], cwd=module.parent, check=True)


def test_a_checkout_has_its_commit(checkout: Path) -> None:
    commit(checkout)
    found = provenance.code()
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    checkout.write_text("second\n")
    assert provenance.code() == found, "the code that runs is the code that was loaded"
    provenance._code.cache_clear()
    assert provenance.code()["dirty"] is True


def test_a_checkout_of_something_else_is_not_ours(checkout: Path) -> None:
    assert "commit" not in provenance.code()
    assert provenance.code()["version"]


def test_without_git_there_is_the_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance._code.cache_clear()
    assert set(provenance.code()) == {"version"}
    provenance._code.cache_clear()


def test_peak_memory_is_in_bytes_and_never_falls() -> None:
    before = provenance.peak_memory()
    block = np.ones(40_000_000)
    after = provenance.peak_memory()
    assert 10_000_000 < before <= after < 2**40
    assert after >= block.nbytes


@pytest.fixture(autouse=True)
def _forget_commit() -> object:
    yield
    provenance._code.cache_clear()
