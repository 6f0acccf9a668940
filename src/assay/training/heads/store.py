"""The folder of a head: its record, its weights, and which encoder it belongs to.

run.json          the record; status incomplete until the end
head.safetensors  the weights of the head; those of the encoder stay where they are
head.json         the task, the shape of the head, and the encoder by name and digest
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from ...core.errors import AssayError, ModelError, RunError
from ...core.files import read_json, to_json, write_atomic
from ...core.probes import Cost, Figure, Measurement, Series
from ...core.runs import Run, RunWriter, load_run
from ...core.settings import as_dict, build
from ...data.dataset import Dataset
from ...data.dense.dataset import DenseDataset
from ...subjects.dense_tasks import Depth, Segmentation
from ...subjects.encoders import Encoder
from ...subjects.encoders import encoder as load_encoder
from ...subjects.tasks import Classification
from ...subjects.weights import load_weights, read_weights
from .fit import TrainedHead
from .modules import build_head
from .settings import CARD, HeadSettings, HeadTask

HEAD, WEIGHTS = "head.json", "head.safetensors"
FIELDS = ("task", "head", "encoder", "settings", "seed")
TASKS: Mapping[str, type] = {"classification": Classification, "segmentation": Segmentation, "depth": Depth}


def open_run(
    out: str | Path,
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    task: HeadTask,
    given: HeadSettings | None,
    settings: HeadSettings,
    seed: int,
    validation: DenseDataset | Dataset | None,
    command: Sequence[str],
) -> RunWriter:
    """Create the folder, or find finished what is in it.

    Raises:
        RunError: it holds another head, is being written, or cannot be written.
    """
    return RunWriter.open(
        out,
        method=CARD,
        given={} if given is None else as_dict(given),
        resolved={
            "head": as_dict(settings),
            "task": {"name": task.name, **task.describe()},
            "validation": None if validation is None else validation.digest,
        },
        target=encoder.describe(),
        data=data.describe(),
        seeds={"root": seed},
        command=command,
        in_place=True,
    )


def finish(writer: RunWriter, trained: TrainedHead, validation: DenseDataset | Dataset | None) -> Run:
    """Write the head, and then the record that says the training has ended."""
    weights = {name: value.detach().cpu().contiguous() for name, value in trained.head.state_dict().items()}
    write_atomic(writer.path / WEIGHTS, safetensors.torch.save(weights))
    about = {
        "schema": 1,
        "kind": "head",
        "task": {"name": trained.task.name, **trained.task.describe()},
        "head": trained.head.config(),
        "encoder": _named(trained.encoder, writer.path),
        "settings": as_dict(trained.settings),
        "seed": trained.seed,
        "losses": trained.losses,
    }
    write_atomic(writer.path / HEAD, to_json(about))
    measurement = Measurement(
        metrics=trained.metrics,
        findings=trained.findings,
        samples=trained.samples,
        figures=[_course(trained)],
        panels=trained.panels,
        cost=Cost(forward=trained.cost.forward),
    )
    return writer.finish(
        measurement,
        sample_ids=() if validation is None else validation.sample_ids,
        target=trained.target.describe(),
        keep=(HEAD, WEIGHTS),
    )


def load_head(folder: str | Path, encoder: Encoder | None = None) -> TrainedHead:
    """A head that was trained with ``out=folder``, on its encoder.

    Args:
        folder: where it lies.
        encoder: the encoder it was trained on; None: the one that its record names.

    Raises:
        RunError, ModelError: there is no finished head, its encoder is not found, or is another one.
    """
    path = Path(folder)
    if not (path / HEAD).is_file() or not (path / WEIGHTS).is_file():
        raise RunError(
            f"{str(folder)!r} holds no finished head: {HEAD} and {WEIGHTS} are needed. "
            "Repeat the 'assay train probe' command to finish it."
        )
    about = read_json(path / HEAD)
    lacking = [name for name in FIELDS if not isinstance(about, dict) or name not in about]
    if not lacking and "digest" not in about["encoder"]:
        lacking = ["the digest of the encoder"]
    if lacking:
        raise RunError(f"{str(path / HEAD)!r} is damaged: it lacks {', '.join(lacking)}. Train the head again.")
    found = encoder or _found(about["encoder"], path)
    if found.digest != about["encoder"]["digest"]:
        raise ModelError(
            f"The head of {str(folder)!r} was trained on the encoder {about['encoder'].get('name', '')!r} with digest "
            f"{about['encoder']['digest']}; this one, {found.name!r}, has {found.digest}. Give the encoder it was "
            "trained on, or train a head for this one."
        )
    head = build_head(about["head"])
    load_weights(head, read_weights(path / WEIGHTS), where=repr(str(path / WEIGHTS)))
    try:
        purpose = dict(about["task"])
        task = TASKS[purpose.pop("name")](**purpose)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{str(path / HEAD)!r} is damaged: {error}. Train the head again.") from error
    run = load_run(path)
    return TrainedHead(
        found,
        head.to(found.device).eval().requires_grad_(False),
        task,
        build(HeadSettings, about["settings"]),
        int(about["seed"]),
        losses=list(about.get("losses", [])),
        metrics=run.metrics,
        findings=run.findings,
        cost=run.cost,
        run=run,
    )


def _named(encoder: Encoder, folder: Path) -> dict[str, Any]:
    """What finds an encoder again."""
    origin = encoder.backbone.origin
    inner = origin.get("of", origin)
    path = None if encoder.folder is None else os.path.relpath(encoder.folder.resolve(), folder.resolve())
    return {
        "name": encoder.name,
        "source": encoder.source,
        "digest": encoder.digest,
        "folder": path,
        "network": {key: inner[key] for key in ("in_channels", "image_size") if key in inner},
        "sliding": origin.get("sliding"),
    }


def _found(about: Mapping[str, Any], folder: Path) -> Encoder:
    """The encoder of a record."""
    source = str(about.get("source", ""))
    try:
        if about.get("folder"):
            found = load_encoder(f"run:{folder / about['folder']}")
        elif source.startswith("network:"):
            known = about.get("network") or {}
            size = known.get("image_size")
            size = (size[0], size[1]) if size else None
            found = load_encoder(source, in_channels=known.get("in_channels", 3), image_size=size)
        else:
            found = load_encoder(source)
        window = about.get("sliding")
        return found if not window else found.sliding(tuple(window["crop"]), tuple(window["stride"]))
    except AssayError as error:
        raise ModelError(
            f"The encoder {source!r} of the head in {str(folder)!r} cannot be loaded from its record: {error} "
            "Load it yourself and give it along: load_head(folder, encoder), or --encoder."
        ) from error


def _course(trained: TrainedHead) -> Figure:
    epochs = tuple(float(epoch + 1) for epoch in range(len(trained.losses)))
    return Figure(
        name="history-loss",
        title="Loss by epoch",
        caption=f"{len(epochs)} epochs. Mean over the training images.",
        kind="line",
        x_label="epoch",
        y_label="mean loss",
        series=(Series(label="training loss", x=epochs, y=tuple(trained.losses)),),
    )
