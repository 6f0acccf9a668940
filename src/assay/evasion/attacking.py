"""Attack any model: classifier, segmentation model, depth model or encoder, through one door."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError, ModelError, SettingError, did_you_mean
from ..core.probes import Cost, Finding
from ..core.progress import Progress
from ..core.seeds import seed as named_seed
from ..core.settings import number
from ..core.shards import Shards
from ..search.threat import ThreatModel
from ..subjects.dense_tasks import Embedding
from ..subjects.encoders import Encoder
from ..subjects.target import Target
from . import doubts
from .evaluation import check_count, check_ids
from .objectives.registry import AttackObjective, Sizes, names, resolve
from .searching import METHODS, Plan
from .worst import Worst


@dataclass
class Attacked:
    """The worst points an attack found; every tensor in the order of the samples given.

    Args:
        threat: the threat model.
        objective: name of the objective.
        adversarial: raw inputs [N, C, H, W], float32: the worst point seen, the clean input where none was worse.
        loss: the tracked loss of the caller's own model at ``adversarial`` [N]: the objective itself,
            and for segmentation plain cross-entropy; larger is worse for the model.
        clean_loss: the same at the clean inputs [N].
        success: whether the adversary has all it can want [N] bool: a wrong class, or not one
            pixel that counts right. None for depth and embeddings, where there is only more and less.
        excluded: images without a pixel that counts [N] bool: left as they are, with loss 0.
        strongest_by: which loss won, and in which restart if not the first (``"js"``,
            ``"js/1"``); ``"clean"`` where no point was worse than the clean one, None where excluded.
        cost: passes of one sample, and seconds.
        findings: signs that the numbers cannot be trusted.
    """

    threat: ThreatModel
    objective: str
    adversarial: Tensor
    loss: Tensor
    clean_loss: Tensor
    success: Tensor | None
    excluded: Tensor
    strongest_by: list[str | None]
    cost: Cost
    findings: list[Finding] = field(default_factory=list)


def attack(
    target: Target[Any] | Encoder,
    inputs: Tensor,
    references: Any,
    threat: ThreatModel,
    objective: str | AttackObjective | None = None,
    *,
    method: str = "pgd",
    steps: int = 20,
    step_size: float | str | None = None,
    restarts: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    sample_ids: Sequence[int] | None = None,
    shards: Shards | None = None,
    progress: Progress | None = None,
) -> Attacked:
    r"""The worst point that an adversary finds for each sample: max over ||δ|| <= ε of the objective.

    Every search starts at a random point of the ball. Of all points seen (all steps, restarts and
    losses) the worst is kept: for a classifier a wrong class, then the largest loss; for segmentation the
    lowest pixel accuracy, then the largest cross-entropy; else the largest loss. It is
    checked again by the caller's own model in float32, and is never weaker than the clean input.

    Args:
        target: the model under attack, or an encoder.
        inputs: raw inputs within the target's bounds [N, C, H, W].
        references: what answers are compared with: labels [N], masks [N, H, W], depth maps [N, H, W],
            representations [N, D] or [N, D, h, w]; None, for encoders only, takes those of the clean inputs.
        threat: norm and budget.
        objective: a name from ``assay ls objective``, the settings of one, or None for the task's default.
        method: ``"pgd"``, ``"apgd"`` (steps that halve when progress stalls), or ``"radii"``
            (the same, from larger balls inwards). ``"sea"`` brings its own.
        steps: gradient steps of each search.
        step_size: length of a step of ``"pgd"``; 2.5 ε / steps if not given.
        restarts: random starts.
        seed: root of every random stream.
        batch_size: rows in work at a time; fewer where answers are large. Does not change results.
        sample_ids: names of the samples, N distinct integers; 0..N-1 if not given.
        shards: a store that makes the attack resumable, a batch at a time.
        progress: where progress is shown.

    Returns:
        An :class:`Attacked`.

    Raises:
        DataError, ModelError, SettingError: what was given cannot be used.

    Cost: ``steps`` forward and backward and two forward passes for each search and restart, and
    one forward pass a sample.

    >>> target = Target(lambda x: x.flatten(1), task=Embedding())
    >>> found = attack(target, torch.full((1, 1, 1, 2), 0.5), None, ThreatModel("linf", 0.1))
    >>> round(float(found.loss), 4), bool((found.adversarial - 0.5).abs().max() < 0.1001)
    (0.01, True)
    """
    started = time.perf_counter()
    subject, settings, card_name, sizes = _subject(target, objective)
    task = subject.task
    method = str(getattr(settings, "method", method))
    if method not in METHODS:
        raise SettingError(f"method is {method!r}.{did_you_mean(method, METHODS)}")
    for name, value in (("steps", steps), ("restarts", restarts), ("batch_size", batch_size)):
        check_count(name, value)
    images = (target if isinstance(target, Encoder) else subject).check_images(_stacked(inputs))
    ids = check_ids(sample_ids, len(images))
    known = _references(subject, references, images)
    excluded = _excluded(task, known, len(images))
    plan = Plan(
        aims=settings.aims(task, sizes),
        settings=repr(settings),
        method=method,
        steps=steps,
        step_size=_step_size(step_size, threat, steps, method),
        restarts=restarts,
        seed=seed,
        needs_map=getattr(settings, "space", "global") == "patch",
    )
    counted = (~excluded).nonzero()[:, 0]
    result = Attacked(
        threat=threat,
        objective=card_name,
        adversarial=images.clone(),
        loss=torch.zeros(len(images)),
        clean_loss=torch.zeros(len(images)),
        success=None,
        excluded=excluded,
        strongest_by=[None] * len(images),
        cost=Cost(),
        findings=[*_findings(target, subject), *doubts.of_excluded(excluded)],
    )
    shown = progress or Progress(enabled=False)
    with subject.undisturbed(), shown.task(f"{card_name} {threat.norm} {threat.eps:.4g}", total=len(counted)) as bar:
        torch.manual_seed(named_seed(seed, "model"))
        worst = Worst(subject, plan, threat, batch_size=batch_size, shards=shards)
        for part in worst.batches(counted, images):
            found = worst.of(images[part], None if known is None else known[part], [ids[row] for row in part.tolist()])
            result.adversarial[part], result.loss[part] = found.points, found.loss
            result.clean_loss[part] = found.clean_loss
            if found.success is not None:
                if result.success is None:
                    result.success = torch.zeros(len(images), dtype=torch.bool)
                result.success[part] = found.success
            for row, winner in zip(part.tolist(), found.winner, strict=True):
                result.strongest_by[row] = winner
            bar.advance(len(part))
    result.findings += worst.findings(len(counted))
    result.cost = Cost(
        seconds=time.perf_counter() - started, forward=worst.forward_passes, backward=worst.backward_passes
    )
    return result


def _subject(
    target: Target[Any] | Encoder, objective: str | AttackObjective | None
) -> tuple[Target[Any], AttackObjective, str, Sizes]:
    """The target that answers what the objective asks of it."""
    if isinstance(target, Encoder):
        card, settings = resolve(objective, Embedding())
        space = getattr(settings, "space", "global")
        sizes = Sizes(target.dim, target.patch_dim) if space == "both" else Sizes()
        return target.target(space), settings, card.name, sizes
    if not isinstance(target, Target):
        raise ModelError(
            f"attack was given a {type(target).__name__}; a Target or an Encoder is needed, such as "
            "Target(model, task=Segmentation(num_classes=11))."
        )
    card, settings = resolve(objective, target.task)
    if getattr(settings, "space", "global") == "both":
        raise SettingError(
            f"The objective {card.name!r} is for an Encoder, which has both an embedding and patch features. Give "
            "assay.subjects.encoder(...) in place of a Target."
        )
    return target, settings, card.name, Sizes()


def _findings(target: Target[Any] | Encoder, subject: Target[Any]) -> list[Finding]:
    """What is known of the model already, each once."""
    known = {finding.code: finding for finding in (*target.findings, *subject.findings)}
    return list(known.values())


def _stacked(inputs: Any) -> Any:
    """A list of images as one tensor; images of several sizes are an error that says so."""
    if isinstance(inputs, (list, tuple)) and len(inputs):
        images = [torch.as_tensor(image) for image in inputs]
        shapes = sorted({tuple(image.shape) for image in images})
        if len(shapes) > 1:
            raise DataError(
                f"The images have {len(shapes)} sizes, such as {shapes[0]} and {shapes[1]}; one size is needed. "
                "Resize them, or attack those of one size at a time."
            )
        return torch.stack(images)
    return inputs


def _references(subject: Target[Any], references: Any, images: Tensor) -> Tensor | None:
    if references is not None:
        return subject.task.check_references(references, images)
    if not isinstance(subject.task, Embedding):
        needed = {"classification": "labels", "segmentation": "masks", "depth": "depth maps"}[subject.task.name]
        raise DataError(
            f"references is None, and {subject.task.name} needs {needed}. Without any, attack the embedding of an "
            f"encoder: {', '.join(names('embedding'))}."
        )
    return None


def _excluded(task: Any, references: Tensor | None, count: int) -> Tensor:
    """Images without a pixel that counts: [N] bool."""
    if references is None or not hasattr(task, "valid"):
        return torch.zeros(count, dtype=torch.bool)
    excluded = ~task.valid(references).flatten(1).any(1)
    if bool(excluded.all()):
        what = f"ignore_index {task.ignore_index}" if task.name == "segmentation" else "no depth within the limits"
        raise DataError(
            f"Not one of {count} images has a pixel that counts: all of them have {what}. Check the references, and "
            f"the settings of {type(task).__name__}."
        )
    return excluded


def _step_size(given: float | str | None, threat: ThreatModel, steps: int, method: str) -> float:
    if given is None:
        return 2.5 * threat.eps / steps
    size = number(given, name="step_size")
    if method != "pgd":
        raise SettingError(f"step_size is {given!r}, and {method!r} chooses its own step sizes. Leave it out.")
    if not 0 < size < float("inf"):
        raise SettingError(f"step_size is {given!r}; allowed: a finite number above 0.")
    return size
