"""The cells of a cross-task measurement: the answers of all heads without an adversary, under noise and attacks."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError
from ...core.probes import Cost, Finding
from ...core.shards import Shards
from ...search.threat import ThreatModel
from ...subjects.dense_tasks import Segmentation
from ...tensors.norms import expand, norm
from ...tensors.random import normal, sample_seeds, signs
from .probe import Bench, CrossTask, excluded_finding, needs_patches
from .scores import Yardstick, score, yardstick

if TYPE_CHECKING:
    from ..attacking import Attacked

CLEAN, NOISE, EMBEDDING, OUTPUT = "clean", "noise", "embedding", "output"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The answers of all heads to one version of the images.

    Args:
        space: ``"clean"``, ``"noise"``, ``"embedding"`` or ``"output"``: where the adversary aimed.
        attack: name of the objective; that of the space where there is none.
        eps: budget; 0 for clean images.
        sums: [H, N, F], see :mod:`assay.evasion.cross_task.scores`.
        images: what is shown of the images [k, C, H, W]; those of the first head under output attacks.
        answers: what the first head says of them.
    """

    space: str
    attack: str
    eps: float
    sums: np.ndarray
    images: np.ndarray
    answers: np.ndarray


@dataclass
class Cells:
    """Measures the cells of one task, each kept as soon as it is finished.

    Args:
        settings: of the probe.
        bench: what it works on.
    """

    settings: CrossTask
    bench: Bench
    cost: Cost = field(default_factory=Cost)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench = self.bench.prepared(self.settings.task)
        references = self.bench.references
        self.yardstick: Yardstick = yardstick(self.bench.heads[0].task, references)
        self.rows = torch.from_numpy(self.yardstick.counted).nonzero()[:, 0]
        total = len(self.bench.images)
        if not len(self.rows):
            raise DataError(
                f"None of the {total} images has a pixel that counts for {self.settings.task}, so nothing can be "
                "measured. Check the masks or depth maps, the ignored class id and the limits of the depth."
            )
        if len(self.rows) < total:
            self.findings.append(excluded_finding(total - len(self.rows), total))
            self.yardstick = yardstick(self.bench.heads[0].task, references[self.rows])
        self.images = self.bench.images[self.rows]
        self.references = references[self.rows]
        ids = self.bench.sample_ids
        assert ids is not None
        self.sample_ids = [ids[row] for row in self.rows.tolist()]
        count = min(self.settings.pictures, len(self.rows))
        self.shown = torch.linspace(0, len(self.rows) - 1, count).round().long() if count else self.rows[:0]

    def measure(self) -> list[Cell]:
        """Clean images, noise, embedding attacks, output attacks; budgets from small to large."""
        cells = [self._cell(CLEAN, CLEAN, 0.0)]
        embedding = self._possible(self.settings.in_embedding_space())
        for eps in self.settings.eps:
            cells.append(self._cell(NOISE, NOISE, eps))
            cells += [self._cell(EMBEDDING, name, eps) for name in embedding]
            cells += [self._cell(OUTPUT, name, eps) for name in self.settings.at_the_output()]
        return cells

    def _possible(self, names: tuple[str, ...]) -> list[str]:
        """Embedding attacks that this encoder allows."""
        left_out = [name for name in names if needs_patches(name) and not self.bench.encoder.patch_dim]
        if left_out:
            self.findings.append(
                Finding(
                    code="no-patches",
                    severity="info",
                    message=f"The encoder gives no patch features, so {', '.join(left_out)} could not be tried.",
                )
            )
        return [name for name in names if name not in left_out]

    def _cell(self, space: str, attack: str, eps: float) -> Cell:
        shards, key = self.bench.shards, f"{space}/{attack}/{eps!r}/{self._digest()}"
        if shards is not None and key in shards:
            kept = shards.get(key)
            self.cost += Cost(forward=int(kept["cost"][0]), backward=int(kept["cost"][1]))
            self.findings += [Finding(**dict(zip(FINDING, row, strict=True))) for row in kept["findings"].tolist()]
        else:
            kept = self._measured(space, attack, eps)
            if shards is not None:
                shards.put(key, **kept)
        shown = {name: kept[name] for name in ("sums", "images", "answers")}
        return Cell(space=space, attack=attack, eps=eps, **shown)

    def _measured(self, space: str, attack: str, eps: float) -> dict[str, np.ndarray]:
        heads = self.bench.heads
        before, known = self.cost, len(self.findings)
        self.cost = Cost()
        versions: list[Tensor] = []
        with self.bench.progress.task(self._words(space, attack, eps), total=len(self.images) * len(heads)) as task:
            sums = []
            for index, head in enumerate(heads):
                if space == OUTPUT or not versions:
                    versions.append(self._version(space, attack, eps, index))
                sums.append(score(head, self.yardstick, versions[-1], batch_size=self.bench.batch_size))
                self.cost += Cost(forward=len(self.images))
                if len(versions) > 1:
                    versions.pop()
                task.advance(len(self.images))
        pictures = versions[0][self.shown]
        answers = self._answer(pictures) if len(self.shown) else torch.zeros(0)
        cost, self.cost = self.cost, before + self.cost
        found = [[getattr(item, name) for name in FINDING] for item in self.findings[known:]]
        return {
            "sums": np.stack(sums),
            "images": pictures.numpy(),
            "answers": answers.numpy(),
            "cost": np.array([cost.forward, cost.backward]),
            "findings": np.array(found, dtype=str).reshape(-1, len(FINDING)),
        }

    def _version(self, space: str, attack: str, eps: float, head: int) -> Tensor:
        """The images as an adversary left them: [N, C, H, W] on the CPU."""
        if space == CLEAN:
            return self.images
        threat = ThreatModel(self.settings.norm, eps)
        if space == NOISE:
            return self._noise(threat)
        how: dict[str, Any] = {
            "method": self.settings.method,
            "steps": self.settings.steps,
            "restarts": self.settings.restarts,
        }
        if space == EMBEDDING:
            assert self.bench.transfers is not None
            found = self.bench.transfers.attacked(attack, threat, **how)
            self._note(found)
            return found.adversarial[self.rows].cpu()
        from ..attacking import attack as search

        folder = None
        if self.bench.scratch is not None:
            folder = self.bench.scratch / f"{attack}-{threat.norm}-{eps!r}-{head}"
        found = search(
            self.bench.heads[head],
            self.images,
            self.references,
            threat,
            attack,
            **how,
            seed=self.bench.seed,
            batch_size=self.bench.batch_size,
            sample_ids=self.sample_ids,
            shards=None if folder is None else Shards(folder),
            progress=self.bench.progress,
        )
        self._note(found)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return found.adversarial.cpu()

    def _noise(self, threat: ThreatModel) -> Tensor:
        """Random signs (linf) or a random direction (l2, l1) of the length of the budget."""
        seeds = sample_seeds(self.bench.seed, self.sample_ids, "cross-task", "noise")
        shape = self.images.shape[1:]
        if threat.norm == "linf":
            change = signs(seeds, shape)
        else:
            change = normal(seeds, shape)
            change = change / expand(norm(change, threat.norm), change)
        return threat.project(self.images + threat.eps * change, self.images, self.bench.heads[0].bounds)

    def _answer(self, pictures: Tensor) -> Tensor:
        """What the first head says: logits, class ids of pixels, depths, embeddings."""
        head = self.bench.heads[0]
        answers = head.predict(pictures, batch_size=self.bench.batch_size)
        self.cost += Cost(forward=len(pictures))
        return answers.argmax(1) if isinstance(head.task, Segmentation) else answers

    def _note(self, found: Attacked) -> None:
        self.cost += Cost(forward=found.cost.forward, backward=found.cost.backward)
        known = {finding.message for finding in self.findings}
        self.findings += [finding for finding in found.findings if finding.message not in known]

    def _words(self, space: str, attack: str, eps: float) -> str:
        if space == CLEAN:
            return f"{self.settings.task}, clean"
        return f"{self.settings.task}, {attack} {self.settings.norm} {eps:.4g}"

    def _digest(self) -> str:
        """Which images and how many heads a cell is of."""
        text = f"{','.join(map(str, self.sample_ids))}|{len(self.bench.heads)}"
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


FINDING = ("code", "severity", "message", "remedy")
