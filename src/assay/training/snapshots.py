"""Moments of a training: its weights every so many steps, for those who ask how they moved.

moments/step-N.safetensors       the network's own weights after N steps, N = 0, watch, 2 watch, ..., last
moments/step-N.next.safetensors  after one step more; not for the last

A moment is a function of settings, seed and step, so that writing it once more
after an interruption changes nothing. Each file carries its own checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.errors import RunError
from ..core.files import make_folder, write_atomic

if TYPE_CHECKING:
    from .state import TrainState

FOLDER = "moments"
DETAILS = "moment"
_NAME = re.compile(r"step-(\d+)\.safetensors")


@dataclass(frozen=True)
class Moment:
    """Weights kept during a training.

    Args:
        step: steps taken before.
        file: the network's weights then.
        next_file: its weights one step later; None for the last moment.
        learning_rate: of that one step.
    """

    step: int
    file: Path
    next_file: Path | None
    learning_rate: float


def due(every: int, total: int, step: int) -> list[str]:
    """What is to be written after ``step`` of ``total`` steps, by name.

    >>> due(10, 25, 10), due(10, 25, 11), due(10, 25, 25)
    (['step-10.safetensors'], ['step-10.next.safetensors'], ['step-25.safetensors'])
    """
    if not every:
        return []
    own = [f"step-{step}.safetensors"] if step % every == 0 or step == total else []
    return own + ([f"step-{step - 1}.next.safetensors"] if step and (step - 1) % every == 0 else [])


def files(every: int, total: int, *, before: int | None = None) -> list[str]:
    """All that is kept of a training, or what is kept before a step: names in the run folder."""
    stop = total + 1 if before is None else before
    return [f"{FOLDER}/{name}" for step in range(stop) for name in due(every, total, step)]


def keep(out: Path, state: TrainState) -> None:
    """Write the weights as they are now where that is due."""
    for name in due(state.settings.watch, state.total_steps, state.step):
        weights = {key: value.detach().cpu().contiguous() for key, value in state.network.state_dict().items()}
        details = {"step": state.step, "learning_rate": state.learning_rate, "checksum": _checksum(weights)}
        # One entry alone: the order of several would differ from process to process.
        content = safetensors.torch.save(weights, {DETAILS: json.dumps(details)})
        write_atomic(make_folder(out / FOLDER) / name, content)


def check(out: Path, state: TrainState) -> None:
    """RunError unless all that was due before the present step is there and whole."""
    for name in files(state.settings.watch, state.total_steps, before=state.step):
        _details(out / name)


def outlook(state: TrainState) -> list[str]:
    """The space on disk that the moments of a training will take, as a sentence."""
    count = len(files(state.settings.watch, state.total_steps))
    size = sum(value.numel() * value.element_size() for value in state.network.state_dict().values())
    text = f"Weights kept for 'assay dynamics': {count} files, about {count * size / 1e6:,.3g} MB in all."
    return [text] if count else []


def read_moments(folder: str | Path) -> list[Moment]:
    """The moments that a training kept, in their order; none where it was not asked to.

    Args:
        folder: the run folder, of a finished training or one under way.

    Raises:
        RunError: a file is damaged.

    Cost: every file is read once.
    """
    found = []
    for path in (Path(folder) / FOLDER).glob("step-*.safetensors"):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        follower: Path | None = path.with_name(f"step-{name[1]}.next.safetensors")
        if follower is not None and follower.exists():
            _details(follower)
        else:
            follower = None
        found.append(Moment(int(name[1]), path, follower, _details(path)["learning_rate"]))
    return sorted(found, key=lambda moment: moment.step)


def _details(path: Path) -> dict[str, Any]:
    """What a file says of itself, if its weights are those that were written."""
    try:
        with safe_open(path, "pt") as file:
            details: dict[str, Any] = json.loads((file.metadata() or {}).get(DETAILS, "{}"))
            names = list(file.keys())
            whole = details.get("checksum") == _checksum({name: file.get_tensor(name) for name in names})
        cause = "its checksum is another"
    except (SafetensorError, OSError, ValueError) as error:
        whole, cause = False, str(error)
    if not whole:
        raise RunError(
            f"{str(path)!r} is missing, damaged or was changed ({cause}). Put it back from a copy; or remove the "
            "run folder and repeat its command to train anew."
        )
    return details


def _checksum(weights: Mapping[str, Tensor]) -> str:
    """BLAKE2b over names and values, in the order of names: 32 hex digits."""
    total = hashlib.blake2b(digest_size=16)
    for name, value in sorted(weights.items()):
        total.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
