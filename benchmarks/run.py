"""Side by side with peers: the same work, one process each, interleaved, ratios of medians.

    make bench                       # or: python benchmarks/run.py [pgd] [standard] [startup] [memory]

Every library runs in a process of its own with OMP_NUM_THREADS=1; the libraries take turns
(A B C A B C ...), so that a machine that slows down slows all of them. The figure compared is
processor time, which other programs on the machine disturb least; wall time is printed too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PGD = [("plain", "4/255"), ("hardened", "4/255"), ("hardened", "8/255")]
STANDARD = [("plain", "2/255"), ("plain", "4/255"), ("plain", "8/255")]
PEERS = {
    "pgd-20": ("assay", "foolbox", "torchattacks", "art"),
    "standard": ("assay", "torchattacks", "torchattacks-shipped"),
}


def once(library: str, work: str, model: str, eps: str, images: int) -> dict[str, float]:
    """One process; its line of JSON."""
    command = [sys.executable, str(HERE / "peers.py"), library, work]
    command += ["--model", model, "--eps", eps, "--images", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(work: str, grid: list[tuple[str, str]], *, images: int, rounds: int) -> None:
    """Print a table of medians and ratios."""
    print(f"\n### {work}, ResNet-14 (175k parameters) on 3x32x32, batch {images}, {rounds} rounds\n")
    print("| model | budget | library | processor s (median, min .. max) | wall s | robust | ratio to Assay |")
    print("|---|---|---|---|---|---|---|")
    for model, eps in grid:
        results: dict[str, list[dict[str, float]]] = {library: [] for library in PEERS[work]}
        for _ in range(rounds):
            for library in PEERS[work]:
                results[library].append(once(library, work, model, eps, images))
        own = statistics.median(run["cpu_s"] for run in results["assay"])
        for library, runs in results.items():
            seconds = sorted(run["cpu_s"] for run in runs)
            wall = statistics.median(run["wall_s"] for run in runs)
            robust = sorted({f"{run['robust']:g}/{run['n']:g}" for run in runs})
            ratio = statistics.median(seconds) / own
            spread = f"{statistics.median(seconds):.2f} ({seconds[0]:.2f} .. {seconds[-1]:.2f})"
            cells = (model, eps, library, spread, f"{wall:.2f}", ", ".join(robust), f"{ratio:.1f}")
            print(f"| {' | '.join(cells)} |", flush=True)


def startup(rounds: int = 9) -> None:
    """How long `assay --help` takes, as a process."""
    seconds = []
    for _ in range(rounds):
        before = time.perf_counter()
        subprocess.run([sys.executable, "-m", "assay", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - before)
    print(f"\n`assay --help`: median {statistics.median(seconds):.3f} s, {min(seconds):.3f} .. {max(seconds):.3f} s")


def memory() -> None:
    """Peak memory of an audit of 10,000 images of 3x32x32 (suite `quick`, all samples)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "memory.py"), folder]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=HERE)
        print("\n" + (done.stdout.strip().splitlines()[-1] if not done.returncode else done.stderr[-2000:]))


def main() -> None:
    """Run what was named, or all."""
    wanted = sys.argv[1:] or ["startup", "memory", "pgd", "standard"]
    if "startup" in wanted:
        startup()
    if "memory" in wanted:
        memory()
    if "pgd" in wanted:
        compare("pgd-20", PGD, images=64, rounds=3)
    if "standard" in wanted:
        compare("standard", STANDARD, images=64, rounds=1)


if __name__ == "__main__":
    main()
