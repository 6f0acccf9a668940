"""What a private training keeps beside the model: engine, clip rule, ledger, groups, snapshots."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..core.files import make_folder, write_atomic
from ..tensors.gradients import PerSample
from ..training.recipe import Companion, Halted, Report
from .ledger import Ledger, LedgerFile
from .mechanism import PrivateGradient
from .noise import NoiseSource, SecureNoise, SeededNoise
from .record import make_report

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training.job import Job
    from ..training.state import TrainState
    from .dp_sgd import DPSGD

LEDGER, SNAPSHOTS = "ledger.jsonl", "snapshots"


class PrivateCompanion(Companion):
    """The live part of a private recipe.

    Args:
        recipe: its settings.
        job: what is trained on what.
        state: the model in training.
        out: the run folder in the process that writes to it, else None.

    Attributes:
        mechanism: the private gradient; ``mechanism.rule`` is the clip rule of the next step.
        groups: index of each sample's group [N].
        charged: steps charged to the ledger so far, repeated ones included.
    """

    def __init__(self, recipe: DPSGD, job: Job, state: TrainState, out: Path | None) -> None:
        self.recipe, self.state, self.out = recipe, state, out
        self.name = job.card.name
        self.plan = recipe.plan(job)
        self.group_names, self.groups = groups_of(job.data)
        self.by_label = job.data.groups is None
        self.parameters = dict(state.model.named_parameters())
        accelerator = state.accelerator
        self.engine = PerSample(
            state.model,
            recipe.sample_loss,
            backend=recipe.backend,
            microbatch=recipe.microbatch,
            views=recipe.uses_views,
        )
        self.mechanism = PrivateGradient(
            self.engine,
            recipe.rule(len(self.group_names)),
            noise_multiplier=self.plan.noise_multiplier,
            expected_batch_size=job.settings.batch_size,
            noise=functools.partial(noise_of_step, job.seed, recipe.secure),
            total=functools.partial(accelerator.reduce, reduction="sum"),
            adds_noise=accelerator.is_main_process,
        )
        self._moments = set(np.linspace(0, self.plan.steps - 1, recipe.snapshots).round().astype(int).tolist())
        self.snapshots: list[dict[str, Any]] = []
        self.ledger = LedgerFile(out / LEDGER, stream=f"seed {job.seed}") if out is not None else None
        self.charged = self._agreed(0 if self.ledger is None else self.ledger.spent().steps)

    def begin_step(self) -> None:
        """Charge the step about to be computed, and keep the weights before it where that is due.

        A step that was charged before the training was stopped is the same release
        once more, unless its noise is secret and so drawn afresh. (On another device the last bits
        of a repeated step differ; but what came after the last checkpoint was kept nowhere.)

        Raises:
            Halted: the target epsilon allows no further step.
        """
        self.mechanism.steps = self.state.step
        if self.recipe.secure or self.charged <= self.state.step:
            self._charge()
        if self.state.step in self._moments:
            self._keep_snapshot()

    def state_dict(self) -> dict[str, Any]:
        """Clip rule, chosen backend, snapshots and the ledger, whose file is made durable."""
        if self.ledger is not None:
            self.ledger.sync()
        return {
            "rule": self.mechanism.rule.state(),
            "backend": self.engine.chosen,
            "charged": self.charged,
            "snapshots": self.snapshots,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state; what was charged since stays charged."""
        self.mechanism.rule = self.mechanism.rule.with_state(state["rule"])
        self.engine.chosen = state["backend"]
        self.snapshots = list(state["snapshots"])
        while self.charged < state["charged"]:  # the ledger file was removed or cut short after the checkpoint
            self._write(self.charged)

    def columns(self) -> dict[str, float]:
        """The threshold of an adaptive clip rule, which is released."""
        state = self.mechanism.rule.state()
        return {f"clip_{name}": float(value) for name, value in state.items() if isinstance(value, int | float)}

    def spent(self) -> Ledger:
        """What was charged so far."""
        if self.ledger is not None:
            return self.ledger.spent()
        ledger = Ledger()
        ledger.charge(self.plan.event, self.charged)
        return ledger

    def report(self) -> Report:
        """Metrics, findings and ``privacy.json``."""
        return make_report(self)

    def _charge(self) -> None:
        if not self.plan.allows(self.charged + 1):
            raise Halted(
                f"The privacy budget is spent before step {self.state.step + 1} of {self.plan.steps}: "
                f"{self.charged} steps were charged, with those that were repeated after an interruption with fresh "
                f"noise, and one more would exceed epsilon {self.plan.target:g} at delta {self.plan.delta:g}. "
                "The model so far is kept in the run folder. To train to the end, start anew in another folder, with "
                "smaller checkpoint_every (fewer repeated steps) or without secure (repeated steps cost nothing)."
            )
        self._write(self.state.step)

    def _write(self, step: int) -> None:
        """Charge one step to the ledger."""
        if self.ledger is not None:
            self.ledger.charge(self.plan.event, step=step, fresh=self.recipe.secure)
        self.charged += 1

    def _keep_snapshot(self) -> None:
        name = f"{SNAPSHOTS}/step-{self.state.step}.safetensors"
        entry = {
            "step": self.state.step,
            "file": name,
            "clip_state": self.mechanism.rule.state(),
            "learning_rate": self.state.learning_rate,
        }
        self.snapshots = [item for item in self.snapshots if item["step"] < self.state.step] + [entry]
        if self.out is not None:
            make_folder(self.out / SNAPSHOTS)
            weights = {key: value.detach().cpu() for key, value in self.state.network.state_dict().items()}
            content = safetensors.torch.save({key: value.contiguous() for key, value in weights.items()})
            write_atomic(self.out / name, content)

    def _agreed(self, value: int) -> int:
        """The first process's value, in every process."""
        accelerator = self.state.accelerator
        if accelerator.num_processes == 1:
            return value
        mine = torch.tensor([value if accelerator.is_main_process else 0], device=accelerator.device)
        return int(accelerator.reduce(mine, "sum"))


def groups_of(data: Dataset) -> tuple[tuple[str, ...], Tensor]:
    """Names of the groups, and the group of each sample [N]: the data's own, or else the classes."""
    if data.groups is None:
        return data.class_names, torch.from_numpy(np.asarray(data.labels, dtype=np.int64))
    names, index = np.unique(data.groups, return_inverse=True)
    return tuple(str(name) for name in names), torch.from_numpy(index.astype(np.int64))


def noise_of_step(seed: int, secure: bool, step: int) -> NoiseSource:
    """Where a step's noise comes from."""
    return SecureNoise() if secure else SeededNoise(seed, step)
