"""Moments of a private training, looked at again: weights as they were, batches as they could have been."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.errors import ModelError, SettingError
from ..core.seeds import seed
from ..tensors.gradients import PerSample
from ..tensors.random import bits, sample_seeds, uniform
from .decomposition import BatchGradients, GroupLoss, decompose
from .reading import PrivacyRecord, read_training
from .strata import Strata, strata_of

if TYPE_CHECKING:
    from ..subjects.examination import Examination

TERMS = ("r_clip", "r_dir", "r_mag", "r_noise", "r_noise_published")
COLUMNS = (*TERMS, "measured", "clip_rate", "group_batch", "group_clipped", "batch_clipped")
BINS = 16


@dataclass(frozen=True)
class Moment:
    """Where in training to look.

    Args:
        step: steps taken before.
        weights: file with them; ``None`` for the finished model.
        clip_state: of the clip rule; ``None``: as at the end.
        learning_rate: of that step.
    """

    step: int
    weights: str | None
    clip_state: dict[str, Any] | None
    learning_rate: float


@dataclass(frozen=True)
class Look:
    """What was seen at one moment.

    Args:
        step, learning_rate: of the moment.
        values: [groups, batches, columns], columns as in ``COLUMNS``.
        noise_error: standard error of ``r_noise`` [groups]; 0 where the trace is exact.
        n: samples behind each group's gradient and Hessian [groups].
        sizes: sizes of the batches [batches].
        edges, counts: histogram of gradient norms, edges [BINS + 1], counts [groups, BINS].
        thresholds: bounds of the clip rule to mark, by name.
        trace_probes: products behind each trace; 0 where it is exact.
    """

    step: int
    learning_rate: float
    values: np.ndarray
    noise_error: np.ndarray
    n: np.ndarray
    sizes: np.ndarray
    edges: np.ndarray
    counts: np.ndarray
    thresholds: dict[str, float]
    trace_probes: int

    def column(self, name: str) -> np.ndarray:
        """[groups, batches]."""
        return self.values[:, :, COLUMNS.index(name)]

    def as_arrays(self) -> dict[str, np.ndarray]:
        """For a shard."""
        arrays = {name: np.asarray(value) for name, value in vars(self).items() if name != "thresholds"}
        names, values = list(self.thresholds), list(self.thresholds.values())
        return {**arrays, "threshold_names": np.array(names, dtype="U16"), "threshold_values": np.array(values, float)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Look:
        """From a shard."""
        names = arrays.pop("threshold_names").tolist()
        thresholds = dict(zip(names, arrays.pop("threshold_values").tolist(), strict=True))
        plain: dict[str, Any] = {name: value.item() if value.ndim == 0 else value for name, value in arrays.items()}
        return cls(**plain, thresholds=thresholds)


def moments_of(record: PrivacyRecord, most: int, learning_rate: float | None) -> list[Moment]:
    """The run's snapshots, evenly thinned to ``most``; without any, its final weights.

    Raises:
        SettingError: without snapshots the learning rate must be read from the run's record, which does not tell it.
    """
    if record.snapshots:
        chosen = np.unique(np.linspace(0, len(record.snapshots) - 1, min(most, len(record.snapshots))).round())
        snapshots = [record.snapshots[int(place)] for place in chosen]
        return [
            Moment(item.step, str(item.file), item.clip_state, learning_rate or item.learning_rate)
            for item in snapshots
        ]
    return [Moment(record.steps, None, None, learning_rate or _rate_of_run(record))]


def training_settings(record: PrivacyRecord) -> dict[str, Any]:
    """The settings of the training as its run record has them; empty without a record."""
    try:
        found: dict[str, Any] = read_training(record.folder)["settings"]["resolved"]["training"]
    except (KeyError, TypeError):
        return {}
    return found


def _rate_of_run(record: PrivacyRecord) -> float:
    rate = training_settings(record).get("learning_rate")
    if not isinstance(rate, int | float) or not rate > 0:
        raise SettingError(
            f"{str(record.folder)!r} has no snapshots, and its run.json does not tell the learning rate. "
            "Set learning_rate for this probe."
        )
    return float(rate)


class Observer:
    """Looks at moments of one training on its training data.

    Args:
        examination: the model of the run, and the training data.
        record: its privacy record.
        kind: ``"auto"``, ``"group"`` or ``"class"``: whom to tell apart.
        only: these groups alone; empty for all.
        batches: Poisson batches a moment.
        population: samples that stand for a group, at most.
        trace, probes: how the trace is found.
    """

    def __init__(
        self,
        examination: Examination,
        record: PrivacyRecord,
        *,
        kind: str,
        only: Sequence[str],
        batches: int,
        population: int,
        trace: str | None,
        probes: int,
    ) -> None:
        self.record, self.root = record, examination.seed
        self.batches, self.trace, self.probes = batches, trace, probes
        target = examination.target
        if not isinstance(target.model, nn.Module):
            raise ModelError("The model is a plain function; gradients by parameters need a torch.nn.Module.")
        self.strata = strata_of(examination.data, kind)
        self.names = _chosen(self.strata, only)
        self.model = copy.deepcopy(target.model).eval()
        self.loss = target.task.losses
        with torch.no_grad(), target.undisturbed():
            raw = examination.images.to(target.device)
            self.images = raw if target.preprocess is None else target.preprocess(raw)
        self.labels = examination.labels.to(target.device)
        self.clip_groups = torch.from_numpy(
            strata_of(examination.data, "class" if record.groups == "label" else "auto").numbers
        )
        self.seeds = sample_seeds(self.root, examination.sample_ids, "gradient-misalignment")
        self.population = {name: self._population(name, population) for name in self.names}

    def look(self, moment: Moment) -> Look:
        """Decompose the excess loss of ``batches`` Poisson batches for every group.

        Cost: two private steps a batch; for each group one Hessian-vector product a probe, and two with two
        forward passes a batch, over its samples.
        """
        self._put_weights(moment)
        rule = self.record.rule(moment.clip_state)
        engine = PerSample(self.model, self.loss, backend="vmap")  # not timed: the same numbers every time
        drawn = [self._batch(moment.step, number) for number in range(self.batches)]
        steps = [
            BatchGradients.of(engine, self.images[rows], self.labels[rows], rule, self.clip_groups[rows])
            for rows in drawn
        ]
        numbers = torch.from_numpy(self.strata.numbers)
        values = np.full((len(self.names), self.batches, len(COLUMNS)), np.nan)
        errors, counts = np.zeros(len(self.names)), np.zeros((len(self.names), BINS))
        edges = _edges([float(norm) for step in steps for norm in step.norms])
        probes = 0
        for place, name in enumerate(self.names):
            rows = self.population[name]
            group = GroupLoss.of(
                self.model,
                self.loss,
                self.images[rows],
                self.labels[rows],
                trace=self.trace,
                probes=self.probes,
                seed=seed(self.root, "trace", name, moment.step),
            )
            present = [numbers[rows] == self.strata.names.index(name) for rows in drawn]
            found = decompose(
                group,
                steps,
                present,
                moment.learning_rate,
                self.record.noise_multiplier,
                self.record.expected_batch_size,
            )
            measured = self._measured(rows, steps, moment.learning_rate)
            for number, one in enumerate(found):
                about = {**one, **one.cosines, "measured": measured[number]}
                values[place, number] = [about[key] for key in COLUMNS]
            errors[place] = found[0].r_noise_error
            probes = 0 if group.trace is None or group.trace.method == "exact" else group.trace.n
            counts[place] = np.histogram(np.concatenate([one.sample_norms for one in found]), edges)[0]
        return Look(
            step=moment.step,
            learning_rate=moment.learning_rate,
            values=values,
            noise_error=errors,
            n=np.array([len(self.population[name]) for name in self.names]),
            sizes=np.array([len(rows) for rows in drawn]),
            edges=edges,
            counts=counts,
            thresholds=_thresholds(rule),
            trace_probes=probes,
        )

    @torch.no_grad()
    def _measured(self, rows: Tensor, steps: Sequence[BatchGradients], lr: float) -> list[float]:
        """Mean loss of a group after the clipped step minus that after the unclipped one, without any expansion."""
        own = {name: value for name, value in self.model.named_parameters() if value.requires_grad}

        def after(direction: Tensor) -> float:
            pieces = direction.split([value.numel() for value in own.values()])
            moved = {
                name: value - lr * piece.reshape(value.shape).to(value.dtype)
                for (name, value), piece in zip(own.items(), pieces, strict=True)
            }
            outputs = functional_call(self.model, moved, (self.images[rows],))
            return float(self.loss(outputs.double(), self.labels[rows]).mean())

        return [after(step.clipped_mean) - after(step.mean) for step in steps]

    def _batch(self, step: int, number: int) -> Tensor:
        """Rows of one Poisson batch: every sample by a draw of its own."""
        draws = uniform(bits(self.seeds, 1, step)[:, 0], (1,), number)[:, 0]
        return torch.nonzero(draws < self.record.sample_rate)[:, 0]

    def _population(self, name: str, most: int) -> Tensor:
        """The samples that stand for a group, chosen by a random word of theirs, in the order of the data."""
        rows = torch.from_numpy(self.strata.rows(name))
        order = bits(self.seeds[rows], 1, 1)[:, 0].argsort(stable=True)[:most]
        return rows[order].sort().values

    def _put_weights(self, moment: Moment) -> None:
        from ..subjects.weights import load_weights, read_weights

        if moment.weights is not None:
            load_weights(self.model, read_weights(moment.weights), where=repr(moment.weights))


def _chosen(strata: Strata, only: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in only if name not in strata.present]
    if unknown:
        raise SettingError(
            f"GradientMisalignment.only names {unknown[0]!r}, which is no {strata.kind} of these data; "
            f"allowed: {', '.join(strata.present)}."
        )
    return tuple(name for name in strata.present if not only or name in only)


def _edges(norms: list[float]) -> np.ndarray:
    """Edges of logarithmic bins that hold all norms: [BINS + 1]."""
    positive = [norm for norm in norms if norm > 0 and math.isfinite(norm)]
    low, high = (min(positive), max(positive)) if positive else (1e-3, 1.0)
    low, high = min(low, high / 1.5) * 0.99, high * 1.01
    return np.geomspace(max(low, high * 1e-8), high, BINS + 1)


def _thresholds(rule: Any) -> dict[str, float]:
    """C, and Z or the bounds of groups where the rule has them."""
    found = {"C": float(getattr(rule, "c", getattr(rule, "c0", math.nan)))}
    if hasattr(rule, "z"):
        found["Z"] = float(rule.z)
    return found
