"""Peak memory of an audit of 10,000 32x32 images with resnet20; prints one line."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from models import DATA


def main() -> None:
    """Audit in a child process and read its peak."""
    folder = Path(sys.argv[1])
    suite = folder / "suite.yaml"
    suite.write_text(
        "name: memory\nprobes:\n  - clean-accuracy\n  - calibration\n"
        "  - robust-accuracy: {norm: linf, eps: [8/255], attack: pgd}\n"
    )
    command = [sys.executable, "-m", "assay", "audit", "--model", "network:resnet20"]
    command += ["--weights", str(DATA / "weights" / "cifar10_resnet" / "resnet20.safetensors")]
    command += ["--data", str(DATA / "cifar10_jpeg" / "test.parquet"), "--suite", str(suite)]
    command += ["--out", str(folder / "audit"), "--no-progress"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"audit of 10,000 32x32 images: peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
