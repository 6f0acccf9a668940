"""Robust accuracy: what share of samples the model still gets right when an adversary may change its input."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.errors import ModelError, SettingError, did_you_mean
from ..core.estimates import Estimate, proportion
from ..core.methods import cards, settings_of
from ..core.probes import Cost, Finding
from ..core.progress import Progress, Task
from ..core.seeds import seed as named_seed
from ..core.shards import Shards
from ..search.engine import Outcome
from ..search.threat import ThreatModel
from ..subjects.target import Target
from . import sanity
from .judge import TIE
from .runner import Runner, Samples, has_budget_free_start
from .stages import Attack, Stage

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Evaluation:
    """What an evaluation found; every tensor in the order of the samples given.

    Args:
        threat: the threat model.
        attack: the attack's name.
        correct: classified correctly without an adversary [N] bool.
        robust: correct, and no attack succeeded [N] bool.
        adversarial: raw inputs [N, ...], float32: an adversarial example where one was found, else the clean input.
        broken_by: name of the attack that succeeded, or None, N of them.
        decision: the caller's model's z_y - max of the others at ``adversarial`` where broken or
            misclassified, the smallest seen by the searches where robust [N].
        ties: samples whose ``decision`` lies within 1e-5 of the boundary; only their flags
            may depend on floating-point rounding.
        cost: passes of one sample, and seconds.
        findings: signs that the numbers cannot be trusted.
    """

    threat: ThreatModel
    attack: str
    correct: Tensor
    robust: Tensor
    adversarial: Tensor
    broken_by: list[str | None]
    decision: Tensor
    cost: Cost
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean_accuracy(self) -> Estimate:
        """Share of samples classified correctly, with its Clopper-Pearson interval."""
        return proportion(int(self.correct.sum()), len(self.correct))

    @property
    def robust_accuracy(self) -> Estimate:
        """Share of samples classified correctly whatever the attack tried, with its Clopper-Pearson interval."""
        return proportion(int(self.robust.sum()), len(self.robust))

    @property
    def ties(self) -> int:
        """How many flags hang on the last digits of float32."""
        return int((self.decision.abs() <= TIE).sum())


def evaluate(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    attack: str | Attack | Sequence[str | Attack] = "standard",
    seed: int = 0,
    batch_size: int = 256,
    precision: str = "float32",
    eot: int = 1,
    sample_ids: Sequence[int] | None = None,
    checks: bool = True,
    shards: Shards | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    r"""Robust accuracy under one threat model: the share of samples right at every point the attack tried.

    Attacks run one after another on the samples still standing (arXiv 2003.01690). A private,
    fused copy of the model searches; a sample is broken only when the caller's own model in
    float32 misclassifies a point inside ball and box.

    Args:
        target: the model under examination.
        images: raw inputs within the target's bounds [N, C, H, W].
        labels: class indices [N].
        threat: norm and budget.
        attack: a name from ``assay ls attack``, settings of one, or a list to run in order.
        seed: root of every random stream.
        batch_size: rows in work at a time; bounds memory, does not change results.
        precision: ``"float32"``, or ``"bfloat16"`` for a first search whose successes float32
            confirms and whose failures float32 searches again.
        eot: answers averaged at every step and verdict, for randomised models.
        sample_ids: names of the samples, N integers; 0..N-1 if not given. A sample's random
            stream hangs on its name, not on its place.
        checks: look for signs of gradient masking and other reasons for doubt: four noise draws a
            surviving sample, and 20 gradient steps on at most 64.
        shards: a store that makes the evaluation resumable.
        progress: where progress is shown.

    Returns:
        An :class:`Evaluation`.

    Raises:
        DataError, ModelError, SettingError: what was given cannot be used.

    Cost: ``standard`` asks at most 1,919 forward-and-backward and 5,000 forward passes of each
    sample that withstands it, and few of most others.

    >>> from assay.subjects.tasks import Classification
    >>> weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> target = Target(lambda x: x.flatten(1) @ weights, task=Classification(2))
    >>> images = torch.tensor([[0.9, 0.1], [0.55, 0.45]]).reshape(2, 1, 1, 2)
    >>> result = evaluate(target, images, torch.tensor([0, 0]), ThreatModel("linf", 0.1), attack="apgd-ce")
    >>> result.robust.tolist(), result.broken_by
    ([True, False], [None, 'apgd-ce'])
    """
    return evaluate_grid(
        target,
        images,
        labels,
        [threat],
        attack=attack,
        seed=seed,
        batch_size=batch_size,
        precision=precision,
        eot=eot,
        sample_ids=sample_ids,
        checks=checks,
        shards=shards,
        progress=progress,
    )[0]


def evaluate_grid(
    target: Target,
    images: Tensor,
    labels: Tensor,
    threats: Sequence[ThreatModel],
    *,
    attack: str | Attack | Sequence[str | Attack] = "standard",
    seed: int = 0,
    batch_size: int = 256,
    precision: str = "float32",
    eot: int = 1,
    sample_ids: Sequence[int] | None = None,
    checks: bool = True,
    shards: Shards | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Robust accuracy over several budgets of one norm, sharing work between them.

    A sample broken within a small budget is broken within every larger one, and the
    nearest adversarial points of minimum-norm attacks are searched once and compared with
    every budget.

    Args:
        threats: budgets of one norm, in any order. Other arguments as in :func:`evaluate`.

    Returns:
        One :class:`Evaluation` a threat, in the order given. The cost of shared work is
        counted with the budget that needed it first (the smallest that did).
    """
    if not threats or len({threat.norm for threat in threats}) != 1:
        raise SettingError(f"threats is {list(threats)!r}; at least one threat model, all of one norm, is needed.")
    if precision not in PRECISIONS:
        raise SettingError(f"precision is {precision!r}.{did_you_mean(precision, PRECISIONS)}")
    check_count("batch_size", batch_size)
    check_count("eot", eot)
    images = target.check_images(images)
    labels = target.check_labels(labels, len(images))
    ids = check_ids(sample_ids, len(images))
    name, attacks = resolve_attacks(attack)
    eot = max([eot, *(getattr(item, "eot", 1) for item in attacks)])
    with target.undisturbed():
        torch.manual_seed(named_seed(seed, "model"))
        runner = Runner(target, seed=seed, batch_size=batch_size, eot=eot, dtype=PRECISIONS[precision], shards=shards)
        return _Grid(runner, images, labels, ids, name, attacks, checks, progress or Progress(enabled=False)).run(
            threats
        )


def resolve_attacks(attack: str | Attack | Sequence[str | Attack]) -> tuple[str, list[Attack]]:
    """The name for records and the settings of one attack or several."""
    items = [attack] if isinstance(attack, str) or hasattr(attack, "stages") else list(attack)
    if not items:
        raise SettingError("attack is an empty list; name at least one attack, such as 'standard'.")
    known = {card.name: card for card in cards("attack")}
    found: list[Attack] = []
    names = []
    for item in items:
        if isinstance(item, str):
            if item not in known:
                raise SettingError(f"There is no attack named {item!r}.{did_you_mean(item, known)}")
            found.append(settings_of(known[item])())
            names.append(item)
        else:
            found.append(item)
            names.append(
                next((c.name for c in known.values() if c.settings == type(item).__name__), type(item).__name__)
            )
    return "+".join(names), found


def check_count(name: str, value: int) -> None:
    """Raise SettingError unless ``value`` is a whole number from 1 up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingError(f"{name} is {value!r}; allowed: a whole number from 1 up.")


def check_ids(sample_ids: Sequence[int] | None, count: int) -> list[int]:
    """Sample names as a list of distinct integers."""
    ids = list(range(count)) if sample_ids is None else [int(item) for item in sample_ids]
    if len(ids) != count or len(set(ids)) != count:
        raise SettingError(
            f"sample_ids has {len(ids)} names, {len(set(ids))} distinct, for {count} samples; one distinct name "
            "each is needed."
        )
    return ids


class _Grid:
    """The state of an evaluation over budgets."""

    def __init__(
        self,
        runner: Runner,
        images: Tensor,
        labels: Tensor,
        ids: list[int],
        name: str,
        attacks: list[Attack],
        checks: bool,
        progress: Progress,
    ) -> None:
        self.runner, self.name, self.attacks, self.checks, self.progress = runner, name, attacks, checks, progress
        target = runner.target
        with progress.task("clean accuracy", total=len(images)) as task:
            logits = torch.cat(
                [runner.judge.logits(part.to(target.device)).cpu() for part in images.split(runner.batch_size)]
            )
            task.advance(len(images))
        self.samples = Samples(images, labels, ids, logits)
        self.correct = ~target.task.success(logits, labels)
        self.robust = self.correct.clone()
        self.adversarial = images.clone()
        self.broken_by: list[str | None] = [None] * len(images)
        self.decision = target.task.margin(logits, labels)
        self.shared: dict[str, Outcome] = {}
        self.shared_rows: dict[str, Tensor] = {}
        self.doubts = sanity.of_outputs(target, self.samples) if checks else list(target.findings)

    def run(self, threats: Sequence[ThreatModel]) -> list[Evaluation]:
        results: dict[float, Evaluation] = {}
        for threat in sorted(threats, key=lambda item: item.eps):
            if threat.eps not in results:
                results[threat.eps] = self._one(threat, many=len(threats) > 1)
        return [results[threat.eps] for threat in threats]

    def _one(self, threat: ThreatModel, many: bool) -> Evaluation:
        started = time.perf_counter()
        forward, backward = self.runner.forward_passes, self.runner.backward_passes
        counts: dict[str, int] = {}
        classes = self.runner.target.task.num_classes
        stages = [stage for item in self.attacks for stage in item.stages(threat, classes)] if threat.eps > 0 else []
        for stage in stages:
            for restart in range(stage.restarts):
                broken = self._stage(stage, threat, restart, many)
                counts[stage.name] = counts.get(stage.name, 0) + broken
        findings = [*self.doubts]
        if self.checks:
            findings += self._check(threat, counts)
        verdict = self.decision.clone()
        rows = (~self.robust & self.correct).nonzero()[:, 0]
        if len(rows):
            verdict[rows] = self.runner.judge.decision(
                self.adversarial[rows], self.samples.labels[rows], self.runner.batch_size
            )
        self._recheck(threat, rows, verdict)
        cost = Cost(
            seconds=time.perf_counter() - started,
            forward=self.runner.forward_passes - forward,
            backward=self.runner.backward_passes - backward,
        )
        return Evaluation(
            threat=threat,
            attack=self.name,
            correct=self.correct.clone(),
            robust=self.robust.clone(),
            adversarial=self.adversarial.clone(),
            broken_by=list(self.broken_by),
            decision=verdict,
            cost=cost,
            findings=findings,
        )

    def _stage(self, stage: Stage, threat: ThreatModel, restart: int, many: bool) -> int:
        rows = self.robust.nonzero()[:, 0]
        label = f"{stage.name} {threat.norm} {threat.eps:.4g}"
        with self.progress.task(label, total=len(rows)) as task:
            if not len(rows):
                return 0
            if many and has_budget_free_start(stage):
                outcome = self._from_nearest(stage, threat, rows, restart, task)
            else:
                outcome = self.runner.attack(stage, threat, self.samples.pick(rows), restart, task)
        self._note(rows[outcome.found], outcome.points[outcome.found], stage.name)
        left = rows[~outcome.found]
        self.decision[left] = torch.minimum(self.decision[left], outcome.decision[~outcome.found])
        return int(outcome.found.sum())

    def _from_nearest(self, stage: Stage, threat: ThreatModel, rows: Tensor, restart: int, task: Task) -> Outcome:
        """Compare nearest adversarial points, searched once at the smallest budget, with this budget."""
        key = f"{stage.name}/{restart}"
        if key not in self.shared:
            self.shared[key] = self.runner.nearest(stage, threat.norm, self.samples.pick(rows), restart, task)
            place = torch.full((len(self.robust),), -1)
            place[rows] = torch.arange(len(rows))
            self.shared_rows[key] = place
        nearest, at = self.shared[key], self.shared_rows[key][rows]
        points = nearest.points[at]
        inside = nearest.found[at] & threat.holds(points, self.samples.images[rows], self.runner.target.bounds)
        return Outcome(inside, points, torch.full((len(rows),), torch.inf))

    def _note(self, rows: Tensor, points: Tensor, name: str) -> None:
        self.robust[rows] = False
        self.adversarial[rows] = points
        for row in rows.tolist():
            self.broken_by[row] = name

    def _check(self, threat: ThreatModel, counts: dict[str, int]) -> list[Finding]:
        """Reasons for doubt; a sample that random noise breaks is broken."""
        noise = sanity.by_noise(self.runner, threat, self.samples, self.robust)
        self._note(noise.rows, noise.points, "noise")
        return noise.findings + sanity.of_attacks(self.runner, threat, self.samples, self.correct, self.robust, counts)

    def _recheck(self, threat: ThreatModel, rows: Tensor, verdict: Tensor) -> None:
        """What is handed out must be what it is said to be."""
        held = threat.holds(self.adversarial[rows], self.samples.images[rows], self.runner.target.bounds)
        slack = TIE * self.samples.logits[rows].abs().amax(1).clamp_min(1)  # float32 rounds in proportion
        settled = self.runner.eot > 1 or bool((verdict[rows] <= slack).all())
        if not bool(held.all()):
            raise AssertionError(f"{int((~held).sum())} adversarial examples lie outside {threat}; please report this.")
        if not settled and not any(doubt.code == "randomised" for doubt in self.doubts):
            raise ModelError(
                "The model gives other answers to the same inputs when asked again, which makes verdicts meaningless. "
                "Evaluate it with attack='rand', which averages over answers, or switch its randomness off."
            )
