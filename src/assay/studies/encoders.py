"""Encoders across tasks: heads are trained, each encoder is attacked on each task, and a matrix sums it up."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.errors import Incomplete, RunError, SettingError, did_you_mean
from ..core.files import make_folder, read_json, write_atomic
from ..core.progress import Progress
from ..core.runs import RunWriter
from ..core.settings import as_dict, build
from ..evasion.cross_task.probe import CARD, TASKS, Bench, CrossTask
from ..evasion.cross_task.transfers import Transfers, images_digest
from ..report import write_report
from .auditing import RECORD, SCHEMA, Study, fill, save, sentence
from .encoders_matrix import SUMS, write_matrix
from .not_tested import not_tested_of_encoders

if TYPE_CHECKING:
    from ..data import DenseDataset
    from ..subjects.encoders import Encoder
    from ..subjects.target import Target
    from ..training.heads import HeadSettings, TrainedHead


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """What one task is measured on.

    Args:
        task: ``"classification"``, ``"segmentation"``, ``"depth"`` or ``"embedding"``.
        test: images and references that are attacked.
        train: for the heads; None where they are given, and for the embedding.
    """

    task: str
    test: DenseDataset
    train: DenseDataset | None = None


@dataclass(kw_only=True)
class Plan:
    """A cross-task study, before it runs.

    Args:
        encoders: under examination, different ones of different names; others are compared with the first.
        tasks: each at most once.
        threat: fields of :class:`assay.evasion.cross_task.CrossTask` but the task: norm, eps, attacks, steps ...
        heads: trained heads to use in the place of training some; those of the right encoder and task are taken.
        head_seeds: heads that are trained for each encoder and task.
        head_settings: how, by task; default: each task's own.
        seed: root of every random stream.
        batch_size: images at a time; results do not depend on it.

    Raises:
        SettingError, DataError, ModelError: the parts do not fit together.
    """

    encoders: Sequence[Encoder]
    tasks: Sequence[TaskData]
    threat: Mapping[str, Any] = field(default_factory=dict)
    heads: Sequence[TrainedHead] = ()
    head_seeds: int = 3
    head_settings: Mapping[str, HeadSettings] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        names = [encoder.name for encoder in self.encoders]
        if not names or len(set(names)) < len(names):
            raise SettingError(f"The encoders are called {names}; at least one, each of another name, is needed.")
        if len({encoder.digest for encoder in self.encoders}) < len(names):
            raise SettingError(f"Some of the encoders {', '.join(names)} are the same network; give each once.")
        tasks = [item.task for item in self.tasks]
        for task in tasks:
            if task not in TASKS:
                raise SettingError(f"There is no task {task!r}.{did_you_mean(task, TASKS)}")
        if not tasks or len(set(tasks)) < len(tasks):
            raise SettingError(f"The tasks are {tasks}; at least one, each once, is needed.")
        for task in tasks:
            self.settings(task)
        for item in self.tasks:
            for encoder in self.encoders:
                encoder.check_images(torch.from_numpy(item.test.images([0])))
            if item.task != "embedding" and item.train is None:
                self._refuse_headless(item)

    def settings(self, task: str) -> CrossTask:
        """The probe's settings for one task."""
        return build(CrossTask, {**self.threat, "task": task})

    def given_heads(self, encoder: Encoder, task: str) -> list[TrainedHead]:
        """Heads that were given for this encoder and task."""
        return [head for head in self.heads if head.task.name == task and head.encoder.digest == encoder.digest]

    def _refuse_headless(self, item: TaskData) -> None:
        without = [encoder.name for encoder in self.encoders if not self.given_heads(encoder, item.task)]
        if without:
            raise SettingError(
                f"The data {item.test.name!r} have no training split, so no {item.task} head can be trained on "
                f"{', '.join(without)}. Give heads that 'assay train probe' made, or data with a training split."
            )


def evade_encoders(
    plan: Plan, *, out: str | Path, progress: Progress | None = None, command: Sequence[str] = ()
) -> Study:
    """Measure every encoder on every task, and write the cross-task matrix and the report.

    For each encoder and task, heads are trained on cached features, and clean images, random noise,
    embedding attacks and output attacks are measured; each pair is a run below ``out/runs``, and one more
    run holds the matrix. Issuing the same study again goes on where it was stopped. A pair that fails is
    recorded as failed and the others go on.

    Args:
        plan: what to measure.
        out: folder of the study.
        progress: where to show progress; default: nowhere.
        command: the command line to print in the report, when there was one.

    Returns:
        The study; its first run is the matrix.

    Raises:
        SettingError, DataError, ModelError: what was given cannot be used together.
        Incomplete: the work was interrupted; what was done is kept.
        RunError: ``out`` cannot be written.

    Cost: see :func:`assay.studies.encoders_cost.plan_cost`.
    """
    progress = progress or Progress(enabled=False)
    study = Study(path=Path(out), record=_record(plan, command))
    save(study)
    try:
        for encoder in plan.encoders:
            with _Shared(study.path, encoder, plan, progress) as shared:
                for item in plan.tasks:
                    _run_pair(plan, encoder, item, study, shared, progress, command)
                    save(study)
    except KeyboardInterrupt:
        save(study)
        raise Incomplete(f"Stopped; what is done is kept in {out}. Run the same command to go on.") from None
    failed = [entry for entry in study.record["runs"] if entry["status"] == "failed"]
    study.record["status"] = "failed" if failed else "ok"
    if any(run.status == "ok" for run in study.runs):
        matrix = write_matrix(plan, study.runs, study.path / "runs", command)
        study.runs.insert(0, matrix)
        study.record["runs"].insert(0, {"probe": matrix.method["name"], "id": matrix.id, "status": matrix.status})
    if not failed:
        shutil.rmtree(study.path / "features", ignore_errors=True)  # the heads that needed them are there
    save(study)
    record = read_json(study.path / RECORD)
    study.report = write_report(study.path, study.runs, study=record, verdicts=[])
    return study


class _Shared:
    """Embedding attacks of one encoder that its tasks share; removed when all tasks are done.

    Args:
        path: of the study.
        encoder, plan, progress: as for the study.
    """

    def __init__(self, path: Path, encoder: Encoder, plan: Plan, progress: Progress) -> None:
        self.path, self.encoder, self.plan, self.progress = path, encoder, plan, progress
        self.known: dict[str, Transfers] = {}

    def of(self, images: torch.Tensor, sample_ids: Sequence[int]) -> Transfers:
        """The attacks on these images."""
        name = f"{self.encoder.digest[:8]}-{images_digest(images, sample_ids)}-{self.plan.seed}"
        if name not in self.known:
            self.known[name] = Transfers(
                self.encoder,
                images,
                sample_ids,
                seed=self.plan.seed,
                batch_size=self.plan.batch_size,
                folder=self.path / "attacks" / name,
                progress=self.progress,
            )
        return self.known[name]

    def __enter__(self) -> _Shared:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is None:
            for transfers in self.known.values():
                transfers.forget()
            with contextlib.suppress(OSError):  # not there, or in use by another encoder
                (self.path / "attacks").rmdir()


def _run_pair(
    plan: Plan,
    encoder: Encoder,
    item: TaskData,
    study: Study,
    shared: _Shared,
    progress: Progress,
    command: Sequence[str],
) -> None:
    settings = plan.settings(item.task)
    entry: dict[str, Any] = {
        "probe": f"{CARD.name}: {item.task} with {encoder.name}",
        "encoder": encoder.name,
        "task": item.task,
        "settings": as_dict(settings),
        "id": None,
        "status": "incomplete",
    }
    study.record["runs"].append(entry)
    try:
        heads = _heads(plan, encoder, item, study.path, progress)
    except RunError:
        raise
    except Exception as error:
        entry.update(status="failed", error=sentence(error))
        return
    writer = RunWriter.open(
        study.path / "runs",
        method=dataclasses.replace(CARD, title=f"{item.task.capitalize()} with {encoder.name}"),
        given={**plan.threat, "task": item.task},
        resolved=as_dict(settings),
        target=_describe(encoder, heads),
        data=item.test.describe(),
        seeds={"root": plan.seed},
        command=command,
    )
    fill(writer, entry, study, lambda: _measure(plan, encoder, item, heads, writer, shared, progress))


def _measure(
    plan: Plan,
    encoder: Encoder,
    item: TaskData,
    heads: Sequence[Target[Any]],
    writer: RunWriter,
    shared: _Shared,
    progress: Progress,
) -> None:
    images = encoder.check_images(torch.from_numpy(item.test.images()))
    ids = [int(row) for row in item.test.sample_ids]
    bench = Bench(
        encoder=encoder,
        heads=heads,
        images=images,
        references=None if item.task == "embedding" else item.test.references(item.task),
        sample_ids=ids,
        class_names=item.test.class_names(item.task) if item.task in ("classification", "segmentation") else (),
        transfers=shared.of(images, ids),
        seed=plan.seed,
        batch_size=plan.batch_size,
        shards=writer.shards,
        scratch=writer.path / "attacks",
        progress=progress,
    )
    found = plan.settings(item.task).examine(bench)
    content = io.BytesIO()
    np.savez_compressed(content, **found.sums)  # type: ignore[arg-type]
    make_folder((writer.path / SUMS).parent)
    write_atomic(writer.path / SUMS, content.getvalue())
    shutil.rmtree(writer.path / "attacks", ignore_errors=True)
    writer.finish(found.measurement, sample_ids=found.sample_ids, keep=(SUMS,))


def _heads(plan: Plan, encoder: Encoder, item: TaskData, out: Path, progress: Progress) -> list[Target[Any]]:
    """Given heads, or trained ones; each lies in a folder of its own and is found there again."""
    if item.task == "embedding":
        return []
    given = plan.given_heads(encoder, item.task)
    if given:
        return [head.target for head in given]
    from ..training.heads import train_head

    assert item.train is not None
    chosen = plan.head_settings.get(item.task)
    settings = hashlib.blake2b(repr(chosen).encode(), digest_size=4).hexdigest()
    name = f"{encoder.digest[:8]}-{item.task}-{item.train.digest[:8]}-{settings}"
    return [
        train_head(
            encoder,
            item.train,
            task=item.task,
            settings=chosen,
            seed=seed,
            cache=out / "features",
            out=out / "heads" / f"{name}-{seed}",
            progress=progress,
        ).target
        for seed in range(plan.seed, plan.seed + plan.head_seeds)
    ]


def _describe(encoder: Encoder, heads: Sequence[Target[Any]]) -> dict[str, Any]:
    """The encoder and its heads; the digest is over all of them."""
    about = encoder.describe()
    digests = [head.digest for head in heads]
    total = hashlib.blake2b("|".join([about["digest"], *digests]).encode(), digest_size=16).hexdigest()
    task = heads[0].task.describe() if heads else {}
    return {**about, **task, "encoder_digest": about["digest"], "heads": digests, "digest": total}


def _record(plan: Plan, command: Sequence[str]) -> dict[str, Any]:
    tasks = [item.task for item in plan.tasks]
    settings = plan.settings(tasks[0])
    smallest = min((item.test for item in plan.tasks), key=len)
    return {
        "schema": SCHEMA,
        "kind": "study",
        "status": "incomplete",
        "seed": plan.seed,
        "command": list(command),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "target": {
            "name": ", ".join(encoder.name for encoder in plan.encoders),
            "encoders": {encoder.name: encoder.describe() for encoder in plan.encoders},
            "digest": "|".join(encoder.digest for encoder in plan.encoders),
        },
        "data": {
            "name": ", ".join(dict.fromkeys(item.test.name for item in plan.tasks)),
            "n": len(smallest),
            "tasks": {item.task: item.test.describe() for item in plan.tasks},
        },
        "runs": [],
        "verdicts": [],
        "not_tested": not_tested_of_encoders(tasks, norm=settings.norm, names=[item.test.name for item in plan.tasks]),
    }
