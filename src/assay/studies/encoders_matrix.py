"""The cross-task matrix: every encoder, task and attack space side by side, from the runs of a study."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.budgets import NORM_SYMBOLS, budget_text
from ..core.estimates import Estimate
from ..core.files import read_bytes
from ..core.methods import MethodCard
from ..core.probes import Column, Figure, Finding, Measurement, Metric, Series
from ..core.runs import Run, RunWriter, find_runs, load_run
from ..core.seeds import seed as named_seed
from ..evasion.cross_task.estimates import difference, pooled
from ..evasion.cross_task.scores import Measure, measures_of
from ..evasion.cross_task.view import title

if TYPE_CHECKING:
    from .encoders import Plan

MATRIX = MethodCard(
    name="cross-task-matrix",
    kind="summary",
    title="Cross-task matrix",
    summary="Quality of every encoder on every task, on clean images and under attacks on embedding and output.",
    settings="Plan",
)
SPACES = {
    "clean": "clean",
    "noise": "random noise",
    "embedding": "attack on embedding",
    "output": "attack on output",
    "worst": "worst of all",
}
AIMS = {"embedding": "attacks on the embedding", "output": "attacks on the output"}
SHOWN = ("clean", "noise", "embedding", "output")
SUMS = "artifacts/sums.npz"


@dataclass(frozen=True)
class Part:
    """One encoder on one task: its run, and the sums behind its metrics."""

    encoder: str
    task: str
    run: Run

    @cached_property
    def sums(self) -> dict[str, np.ndarray]:
        """Sums [H, N, F] by ``clean``, ``embedding@linf:8/255`` ..."""
        with np.load(io.BytesIO(read_bytes(self.run.path / SUMS)), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Of the task; the first is shown."""
        return measures_of(self.task, self.run.record["target"])


@dataclass
class Matrix:
    """All parts of a study.

    Args:
        plan: of the study.
        parts: finished runs.
    """

    plan: Plan
    parts: Sequence[Part]

    @property
    def norm(self) -> str:
        """Of all budgets."""
        return self.plan.settings(self.plan.tasks[0].task).norm

    @property
    def budgets(self) -> list[str]:
        """As metric names write them, from small to large."""
        return [f"{self.norm}:{budget_text(eps)}" for eps in self.plan.settings(self.plan.tasks[0].task).eps]

    @property
    def tasks(self) -> list[str]:
        """Those that were measured on at least one encoder."""
        return [item.task for item in self.plan.tasks if any(part.task == item.task for part in self.parts)]

    @property
    def encoders(self) -> list[str]:
        """Those that were measured on at least one task."""
        return list(dict.fromkeys(part.encoder for part in self.parts))

    def part(self, encoder: str, task: str) -> Part | None:
        """One encoder on one task, where that was measured."""
        return next((part for part in self.parts if (part.encoder, part.task) == (encoder, task)), None)

    def estimate(self, part: Part, item: Measure, space: str, budget: str) -> Estimate | None:
        """A metric of one part, or None where it was not measured or means nothing."""
        if item.change and space == "clean":
            return None
        sums = part.sums.get(_key(space, budget))
        return None if sums is None else pooled(sums, item.of, rate=item.rate, most=item.most, seed=self._seed)

    def against(self, part: Part, first: Part, item: Measure, space: str, budget: str) -> Estimate | None:
        """That metric minus the one of the first encoder, on the same images."""
        own, other = (one.sums.get(_key(space, budget)) for one in (part, first))
        same = part.run.samples["sample_id"].equals(first.run.samples["sample_id"])
        if own is None or other is None or not same or (item.change and space == "clean"):
            return None
        return difference(own, other, item.of, seed=self._seed)

    @property
    def _seed(self) -> int:
        return named_seed(self.plan.seed, "cross-task", "bootstrap")

    def measurement(self) -> Measurement:
        """Metrics by encoder, matrices, curves and sentences."""
        grids = [self._grid(budget) for budget in reversed(self.budgets)]
        return Measurement(
            metrics=list(self._metrics()),
            figures=[*grids[:1], *self._differences(), *grids[1:], *self._curves()],
            findings=self._sentences(),
        )

    def _metrics(self) -> Iterator[Metric]:
        """Clean, and under the worst of all attacks at the largest budget; all other numbers stand in the figures."""
        for part in self.parts:
            item = part.measures[0]
            for space, budget in (("clean", ""), ("worst", self.budgets[-1])):
                found = self.estimate(part, item, space, budget)
                if found is not None:
                    yield Metric.from_estimate(
                        item.attacked_name(budget) if budget else item.clean_name,
                        found,
                        estimand=f"{item.words}, {SPACES[space]}" + (f" within {_shown(budget)}" if budget else ""),
                        unit=item.unit,
                        direction=item.direction,
                        stratum=f"encoder={part.encoder}",
                    )

    def _pairs(self) -> Iterator[tuple[Part, Part]]:
        for part in self.parts:
            first = self.part(self.encoders[0], part.task)
            if first is not None and part is not first:
                yield part, first

    def _grid(self, budget: str) -> Figure:
        """The matrix at one budget: a column a task, a row an encoder and space."""

        def cell(part: Part, item: Measure, space: str) -> Estimate | None:
            return self.estimate(part, item, space, budget)

        return Figure(
            name=f"cross-task-matrix-{_file(budget)}",
            title=f"Cross-task matrix, {_shown(budget)}",
            caption="Every encoder on every task: on clean images, under random noise of the full budget, under the "
            "strongest attack on the embedding for each image, and under the strongest on the task's own output. "
            "Below each value its 95 % interval over images and heads.",
            kind="matrix",
            x_label="task and metric",
            y_label="encoder and attack",
            series=tuple(self._rows(self.encoders, cell)),
            columns=tuple(_column(task, self._measure(task)) for task in self.tasks),
        )

    def _differences(self) -> Iterator[Figure]:
        """The other encoders minus the first, at the largest budget."""
        first, budget = self.encoders[0], self.budgets[-1]

        def cell(part: Part, item: Measure, space: str) -> Estimate | None:
            other = self.part(first, part.task)
            return None if other is None else self.against(part, other, item, space, budget)

        rows = list(self._rows(self.encoders[1:], cell))
        if rows:
            yield Figure(
                name=f"cross-task-differences-{_file(budget)}",
                title=f"Differences to {first}, {_shown(budget)}",
                caption=f"Each encoder minus {first}, on the same images. Below each difference its 95 % interval over "
                "images and heads; where it holds 0, the difference may be chance.",
                kind="matrix",
                x_label="task and metric",
                y_label="encoder and attack",
                series=tuple(rows),
                columns=tuple(
                    Column(name=_heading(task, item), unit=item.unit, direction=item.direction)
                    for task in self.tasks
                    for item in [self._measure(task)]
                ),
            )

    def _rows(self, encoders: Sequence[str], cell: Callable[[Part, Measure, str], Estimate | None]) -> Iterator[Series]:
        for encoder in encoders:
            for space in SHOWN:
                found = {}
                for task in self.tasks:
                    part, item = self.part(encoder, task), self._measure(task)
                    value = None if part is None else cell(part, item, space)
                    if value is not None:
                        found[_heading(task, item)] = value
                if found:
                    yield _series(f"{encoder} · {SPACES[space]}", tuple(found), list(found.values()))

    def _measure(self, task: str) -> Measure:
        return next(part for part in self.parts if part.task == task).measures[0]

    def _curves(self) -> Iterator[Figure]:
        """For each task the encoders side by side, over budgets."""
        if len(self.encoders) < 2:
            return
        for task in self.tasks:
            item = self._measure(task)
            series = [
                self._line(part, item, space)
                for part in self.parts
                if part.task == task
                for space in ("embedding", "output")
                if any(_key(space, budget) in part.sums for budget in self.budgets)
            ]
            if series:
                symbol = NORM_SYMBOLS[self.norm]
                yield Figure(
                    name=f"encoders-{task}",
                    title=f"{task.capitalize()}: {title(item.name)} of the encoders",
                    caption=f"{title(item.name)} under the strongest attack on the embedding and on the output; "
                    f"{item.direction} is better. Bands are 95 % intervals over images and heads.",
                    kind="line",
                    x_label=f"budget ({symbol} norm, raw input units)",
                    y_label=title(item.name) + (f" ({item.unit})" if item.unit not in ("share", "") else ""),
                    series=tuple(series),
                    y_limits=(0.0, 1.0) if item.unit == "share" else None,
                )

    def _line(self, part: Part, item: Measure, space: str) -> Series:
        start = [] if item.change else [(0.0, self.estimate(part, item, "clean", ""))]
        eps = self.plan.settings(part.task).eps
        points = start + [
            (size, self.estimate(part, item, space, budget)) for size, budget in zip(eps, self.budgets, strict=True)
        ]
        known = {size: value for size, value in points if value is not None}
        return _series(f"{part.encoder}: {space}", tuple(known), list(known.values()))

    def _sentences(self) -> list[Finding]:
        """What the matrix says, a sentence a task and encoder."""
        found = [self._sentence(part) for part in self.parts]
        return found + [self._comparison(part, first) for part, first in self._pairs()]

    def _sentence(self, part: Part) -> Finding:
        item, budget = part.measures[0], self.budgets[-1]
        found = {space: self.estimate(part, item, space, budget) for space in SHOWN}
        values = {space: _digits(value.value, item) for space, value in found.items() if value is not None}
        attacked = [f"{values[space]} under {AIMS[space]}" for space in ("embedding", "output") if space in values]
        start = f"from {values['clean']} on clean images to " if "clean" in values else "to "
        noise = f"; random noise of that length leaves {values['noise']}"
        return Finding(
            code="result",
            severity="info",
            message=f"{part.task.capitalize()} with {part.encoder}: {title(item.name)} goes {start}"
            f"{' and '.join(attacked) or 'no other value, as nothing was attacked'} at {_shown(budget)}{noise}. "
            f"{item.direction.capitalize()} is better.",
        )

    def _comparison(self, part: Part, first: Part) -> Finding:
        item, budget = part.measures[0], self.budgets[-1]
        words = []
        for space in SHOWN:
            change = self.against(part, first, item, space, budget) if space != "noise" else None
            if change is not None:
                words.append(f"{SPACES[space]}, {_change(change, item)}")
        return Finding(
            code="comparison",
            severity="info",
            message=f"{part.task.capitalize()}: {part.encoder} against {first.encoder}, {title(item.name)} at "
            f"{_shown(budget)}: {'; '.join(words) or 'not measured on the same images'}.",
        )


def write_matrix(plan: Plan, runs: Sequence[Run], folder: Path, command: Sequence[str]) -> Run:
    """The matrix as a run of its own.

    Args:
        plan: of the study.
        runs: of its pairs, finished or not.
        folder: of runs.
        command: what to type to get it again.
    """
    finished = [run for run in runs if run.status == "ok"]
    parts = [Part(_encoder(run), str(run.settings["task"]), run) for run in finished]
    matrix = Matrix(plan, parts)
    made_of = [run.id for run in finished]
    ids = hashlib.blake2b("|".join(made_of).encode(), digest_size=16).hexdigest()
    names = ", ".join(matrix.encoders)
    writer = RunWriter.open(
        folder,
        method=MATRIX,
        given={},
        resolved={
            "norm": matrix.norm,
            "eps": list(plan.settings(plan.tasks[0].task).eps),
            "runs": [r.id for r in finished],
        },
        target={"name": names, "digest": ids},
        data={"name": ", ".join(dict.fromkeys(item.test.name for item in plan.tasks)), "digest": ids},
        seeds={"root": plan.seed},
        command=command,
    )
    with writer:
        if not writer.finished:
            writer.finish(matrix.measurement(), sample_ids=[])
    _remove_earlier(folder, writer.id, set(made_of))
    return load_run(writer.path)


def _remove_earlier(folder: Path, own: str, made_of: set[str]) -> None:
    """Remove matrices that hold fewer of the same runs: those of a study that had not come to its end."""
    for run in find_runs(folder):
        fewer = run.method.get("name") == MATRIX.name and set(run.settings.get("runs", ())) <= made_of
        if fewer and run.id != own:
            shutil.rmtree(run.path, ignore_errors=True)


def _encoder(run: Run) -> str:
    return str((run.record.get("target") or {}).get("name", "encoder"))


def _key(space: str, budget: str) -> str:
    return space if space == "clean" else f"{space}@{budget}"


def _heading(task: str, item: Measure) -> str:
    return f"{task}: {title(item.name)}"


def _column(task: str, item: Measure) -> Column:
    limits = (0.0, 1.0) if item.unit == "share" else None
    return Column(name=_heading(task, item), unit=item.unit, direction=item.direction, limits=limits)


def _series(label: str, x: tuple[float | str, ...], values: Sequence[Estimate]) -> Series:
    return Series(
        label=label,
        x=x,
        y=tuple(value.value for value in values),
        lo=tuple(value.lo for value in values),
        hi=tuple(value.hi for value in values),
    )


def _file(budget: str) -> str:
    return budget.replace(":", "-").replace("/", "_")


def _shown(budget: str) -> str:
    norm, _, size = budget.partition(":")
    return f"{NORM_SYMBOLS[norm]} {size}"


def _digits(value: float, item: Measure) -> str:
    if item.unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" + (f" {item.unit}" if item.unit else "")


def _change(found: Estimate, item: Measure) -> str:
    """A difference as a sentence part that says what is more than chance."""
    if found.value == found.lo == found.hi == 0:
        return "the same"
    ends = f"[{_digits(found.lo, item)}, {_digits(found.hi, item)}]"
    if not (found.lo > 0 or found.hi < 0):
        return f"{_digits(found.value, item)} {ends}, which may be chance"
    better = (found.value > 0) == (item.direction == "higher")
    return f"{'better' if better else 'worse'} by {_digits(abs(found.value), item)} {ends}"


def plain_rows(figure: Any) -> tuple[list[str], list[list[str]]]:
    """A matrix as headings and rows of text, for a terminal."""
    names = [column.name for column in figure.columns]
    units = {column.name: column.unit for column in figure.columns}
    rows = []
    for series in figure.series:
        cells = dict.fromkeys(names, "-")
        for index, name in enumerate(series.x):
            lo, hi = (None if ends is None else ends[index] for ends in (series.lo, series.hi))
            digits = ".3f" if units[str(name)] == "share" else ".3g"
            ends = "" if lo is None or hi is None else f" [{lo:{digits}}, {hi:{digits}}]"
            cells[str(name)] = f"{series.y[index]:{digits}}{ends}"
        rows.append([series.label, *cells.values()])
    return ["encoder and attack", *names], rows
