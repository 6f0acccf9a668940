"""Tell whether this installation works: versions, devices, threads, optional parts, a writable folder."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..core.errors import EXIT_BAD_INPUT, EXIT_OK
from .output import table

NEEDED = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "accelerate",
    "safetensors",
    "pyarrow",
    "pillow",
    "matplotlib",
    "jinja2",
    "rich",
    "pyyaml",
    "psutil",
)
OPTIONAL = {"transformers": ("hf", "for hf: models"), "ray": ("ray", "for --executor ray")}


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay doctor``."""
    parser.add_argument("--out", default="runs", metavar="FOLDER", help="folder that must be writable (default: runs)")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; the exit code is 2 if something needed is wrong."""
    rows = [*_packages(), *_extras(), *_compute(), _kernel(), _writable(Path(arguments.out))]
    table("assay doctor", ["what", "state", "found"], rows)
    return EXIT_BAD_INPUT if any(state == "WRONG" for _, state, _ in rows) else EXIT_OK


def _packages() -> list[list[str]]:
    import platform

    rows = [["python", "ok", platform.python_version()], ["assay-ml", *_version("assay-ml")]]
    return rows + [[name, *_version(name)] for name in NEEDED]


def _version(name: str) -> list[str]:
    try:
        return ["ok", version(name)]
    except PackageNotFoundError:
        return ["WRONG", f"not installed: pip install {name}"]


def _extras() -> list[list[str]]:
    rows = []
    for package, (extra, purpose) in OPTIONAL.items():
        there = importlib.util.find_spec(package) is not None
        found = version(package) if there else f"not installed; {purpose}: pip install 'assay-ml[{extra}]'"
        rows.append([f"{package} (optional)", "ok" if there else "absent", found])
    return rows


def _compute() -> list[list[str]]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [["torch", "WRONG", f"cannot be imported: {error}"]]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    limit = os.environ.get("OMP_NUM_THREADS", "not set")
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores (OMP_NUM_THREADS={limit})"
    return [["devices", "ok", ", ".join(["cpu", *gpus])], ["threads", "ok", threads]]


def _kernel() -> list[str]:
    """Whether the watermark's C kernel was built; without it NumPy gives the same results, some ten times slower."""
    try:
        from ..watermark.kernel import backend, problem
    except ImportError as error:
        return ["watermark kernel", "WRONG", f"cannot be imported: {error}"]
    if backend() == "c":
        return ["watermark kernel", "ok", "C"]
    why = problem() or "ASSAY_KERNEL=numpy is set"
    remedy = "" if not problem() else "; for speed, install a C compiler and install assay-ml again"
    return ["watermark kernel", "absent", f"NumPy runs instead ({why}){remedy}"]


def _writable(folder: Path) -> list[str]:
    nearest = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return ["output folder", "ok", f"{folder} can be written"]
    except OSError as error:
        return ["output folder", "WRONG", f"{nearest} cannot be written ({error.strerror}); use --out elsewhere"]
