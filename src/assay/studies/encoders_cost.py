"""What a cross-task study will cost, told before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.probes import Cost
from .cost import Pace, measure_pace
from .encoders import Plan


@dataclass(frozen=True, kw_only=True)
class PairCost:
    """What one encoder costs on one task.

    Args:
        encoder, task: the pair.
        images: attacked images.
        heads: heads that are attacked; 0 for the embedding itself.
        training: passes of the encoder that make the features heads are trained on.
        cost: passes of images through the encoder, forward and backward.
        seconds: on this machine; the steps of the heads' training, which are short, are not in it.
    """

    encoder: str
    task: str
    images: int
    heads: int
    training: int
    cost: Cost
    seconds: float


def plan_cost(plan: Plan) -> list[PairCost]:
    """Passes and seconds of every pair of encoder and task; nothing is written.

    Embedding attacks are counted with the first task that uses the images, since others share them.

    Cost: about six passes over one batch for each encoder, to time it.
    """
    found = []
    for encoder in plan.encoders:
        seen: set[str] = set()
        featured: set[str] = set()
        target: Any = encoder.target("global")
        first: Any = plan.tasks[0].test
        pace: Pace = measure_pace(target, first, batch_size=plan.batch_size)
        for item in plan.tasks:
            heads = 0 if item.task == "embedding" else len(plan.given_heads(encoder, item.task)) or plan.head_seeds
            cost = plan.settings(item.task).expected_cost(
                samples=len(item.test),
                heads=max(1, heads),
                patches=encoder.patch_dim > 0,
                shared=item.test.digest in seen,
            )
            seen.add(item.test.digest)
            training = 0
            if heads and not plan.given_heads(encoder, item.task) and item.train is not None:
                space = "global" if item.task == "classification" else "patch"
                key = f"{item.train.digest} {space}"
                training = 0 if key in featured else len(item.train)
                featured.add(key)
            found.append(
                PairCost(
                    encoder=encoder.name,
                    task=item.task,
                    images=len(item.test),
                    heads=heads,
                    training=training,
                    cost=cost,
                    seconds=pace.seconds(cost + Cost(forward=training)),
                )
            )
    return found
