"""Attacked images in embedding space: searched once for an encoder and its images, used by every task and head."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ...core.progress import Progress
from ...core.shards import Shards
from ...search.threat import ThreatModel

if TYPE_CHECKING:
    from ...subjects.encoders import Encoder
    from ..attacking import Attacked


class Transfers:
    """Embedding attacks on one encoder's images, each searched when it is first asked for.

    Args:
        encoder: under attack.
        images: raw [N, C, H, W], within the bounds.
        sample_ids: names of the images.
        seed: root of every random stream.
        batch_size: images at a time.
        folder: where they are kept, so that a stopped search goes on; None keeps them in memory.
        progress: where progress is shown.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: Tensor,
        sample_ids: Sequence[int],
        *,
        seed: int = 0,
        batch_size: int = 64,
        folder: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.encoder, self.images, self.sample_ids = encoder, images, list(sample_ids)
        self.seed, self.batch_size, self.folder = seed, batch_size, folder
        self.progress = progress or Progress(enabled=False)
        self._known: dict[str, Attacked] = {}

    def attacked(self, objective: str, threat: ThreatModel, *, method: str, steps: int, restarts: int) -> Attacked:
        """The images that an embedding attack found, with what they cost."""
        from ..attacking import attack

        name = f"{objective}-{threat.norm}-{threat.eps!r}-{method}-{steps}-{restarts}"
        if name in self._known:
            return self._known[name]
        found = attack(
            self.encoder,
            self.images,
            None,
            threat,
            objective,
            method=method,
            steps=steps,
            restarts=restarts,
            seed=self.seed,
            batch_size=self.batch_size,
            sample_ids=self.sample_ids,
            shards=None if self.folder is None else Shards(self.folder / name),
            progress=self.progress,
        )
        if self.folder is None:
            self._known[name] = found
        return found

    def forget(self) -> None:
        """Remove what was kept."""
        self._known.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def images_digest(images: Tensor, sample_ids: Sequence[int]) -> str:
    """What embedding attacks hang on besides encoder and settings: 16 hex digits."""
    total = hashlib.blake2b(digest_size=8)
    total.update(f"{tuple(images.shape)}|{','.join(map(str, sample_ids))}|".encode())
    total.update(images.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
