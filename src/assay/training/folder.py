"""The folder of a training: its record, its checkpoint, its history and the model it made.

run.json           the record; status incomplete until the end
checkpoint.pt      model, optimiser, average and position; tensors and plain values only
history.jsonl      one line an epoch
model.safetensors  the weights to use
model.json         the network around them
moments/           weights on the way, where they are watched

A recipe may add files of its own.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..core.errors import RunError
from ..core.files import set_aside, to_json, write_atomic
from ..core.probes import Finding, Measurement
from ..core.runs import RunWriter
from ..core.settings import as_dict
from . import snapshots
from .job import Job
from .recipe import Report
from .state import TrainState

CHECKPOINT, HISTORY, WEIGHTS, MODEL = "checkpoint.pt", "history.jsonl", "model.safetensors", "model.json"


@dataclass
class Log:
    """What happened so far.

    Args:
        history: one row of numbers for each closed epoch.
        sums: sums over samples of the open epoch.
        best: value, epoch and weights of the best validation, where one is asked for.
        seconds: time spent, over all sessions.
        places: on which device, with how many processes and threads, by which torch.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    seconds: float = 0.0
    places: list[str] = field(default_factory=list)

    def arrive(self, state: TrainState) -> None:
        """Note where the work goes on."""
        place = (
            f"torch {torch.__version__} on {state.accelerator.device.type}, "
            f"processes: {state.accelerator.num_processes}, threads: {torch.get_num_threads()}"
        )
        if place not in self.places:
            self.places.append(place)

    def findings(self) -> list[Finding]:
        """What a reader should know about how the training went."""
        if len(self.places) < 2:
            return []
        return [
            Finding(
                code="resumed-elsewhere",
                severity="info",
                message=f"The training was taken up in another place ({' then '.join(self.places)}); "
                "floating-point rounding, and so the last bits of the weights, may differ from an uninterrupted run.",
                remedy="Train in one place if the weights must be reproduced to the last bit.",
            )
        ]


def open_run(job: Job, out: Path, command: Sequence[str]) -> RunWriter:
    """Create the folder, or take up or find finished what is in it.

    Raises:
        RunError: it holds another training, is being written, or cannot be written.
    """
    return RunWriter.open(
        out,
        method=job.card,
        given={"recipe": as_dict(job.recipe), "network": job.network, "training": as_dict(job.settings)},
        resolved=job.resolved(),
        target={"name": job.network, "source": f"network:{job.network}", "digest": ""},
        data=job.data.describe(),
        seeds={"root": job.seed},
        command=command,
        in_place=True,
    )


def save(out: Path, identity: str, state: TrainState, log: Log) -> None:
    """Write checkpoint and history; each is whole or as it was before."""
    content = {"identity": identity, "state": state.state_dict(), "log": vars(log)}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(out / CHECKPOINT, buffer.getvalue())
    write_atomic(out / HISTORY, "".join(json.dumps(row) + "\n" for row in log.history))


def set_damaged_aside(out: Path) -> None:
    """A checkpoint whose bytes are not those that were written is renamed, and the training begins anew."""
    path = out / CHECKPOINT
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
    except FileNotFoundError:
        return
    except (zipfile.BadZipFile, OSError):
        whole = False
    if not whole:
        set_aside(path)


def restore(out: Path, identity: str, state: TrainState) -> Log:
    """Put the state back to the last checkpoint; a fresh log if there is none.

    Raises:
        RunError: the checkpoint belongs to another training, or a moment that was kept before it is gone.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return Log()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise RunError(f"{str(path)!r} cannot be read: {error}. Remove it to train anew.") from error
    if content["identity"] != identity:
        raise RunError(f"{str(path)!r} belongs to another training. Choose another output folder, or remove it.")
    state.load_state_dict(content["state"])
    snapshots.check(out, state)
    return Log(**content["log"])


def write_model(out: Path, job: Job, weights: Mapping[str, Tensor]) -> None:
    """The model that loaders read: description first, weights last."""
    write_atomic(out / MODEL, to_json(job.product.record(job)))
    kept = job.product.exported(weights)
    tensors = {name: value.contiguous() for name, value in kept.items()}
    write_atomic(out / WEIGHTS, safetensors.torch.save(tensors, {"format": "pt"}))  # transformers asks for the format


def finish(
    writer: RunWriter, job: Job, weights: Mapping[str, Tensor], measurement: Measurement, report: Report
) -> None:
    """Write the model, and then the record that says the training has ended, with what the recipe adds."""
    write_model(writer.path, job, weights)
    measurement.metrics += report.metrics
    measurement.findings += report.findings
    measurement.figures += report.figures
    ids = job.validation.sample_ids if job.validation is not None and measurement.samples else ()
    writer.finish(
        measurement,
        sample_ids=ids,
        target=job.product.describe(writer.path),
        keep=(MODEL, WEIGHTS, HISTORY, *report.files, *snapshots.files(job.settings.watch, job.total_steps)),
    )
