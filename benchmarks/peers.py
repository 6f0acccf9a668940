"""One attack by one library in one process; prints a line of JSON.

    python benchmarks/peers.py assay pgd-20 --model plain --eps 4/255 --images 64

The clock runs over the attack alone, after one warm-up on two images: imports, data and
model are the same for all. Robust accuracy is counted afterwards, in the same way for all:
right on the clean image and on the adversarial one, by the original model in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from models import WithNormalisation, images, target
from torch import Tensor, nn

from assay import Target, ThreatModel
from assay.evasion import evaluate
from assay.evasion.pgd import PGD

STEPS = 20
Attack = Callable[[Tensor, Tensor], Tensor]


def by_assay(subject: Target, module: nn.Module, work: str, eps: float) -> Attack:
    """Assay."""
    attack = PGD(steps=STEPS, step_size=2.5 * eps / STEPS) if work == "pgd-20" else "standard"
    threat = ThreatModel("linf", eps)
    return lambda x, y: evaluate(subject, x, y, threat, attack=attack, checks=False).adversarial


def by_foolbox(subject: Target, module: nn.Module, work: str, eps: float) -> Attack:
    """Foolbox; it has no standard evaluation."""
    import foolbox

    model = foolbox.PyTorchModel(module, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=2.5 * eps / STEPS, random_start=True)
    return lambda x, y: attack(model, x, y, epsilons=eps)[1]


def by_torchattacks(subject: Target, module: nn.Module, work: str, eps: float) -> Attack:
    """torchattacks; its AutoAttack runs APGD and FAB for 10 steps, so the published 100 are asked for by name."""
    import torchattacks

    if work == "pgd-20":
        attack = torchattacks.PGD(module, eps=eps, alpha=2.5 * eps / STEPS, steps=STEPS)
        return lambda x, y: attack(x, y)
    common = {"norm": "Linf", "eps": eps, "seed": 0, "n_restarts": 1}
    parts = [
        torchattacks.APGD(module, steps=100, loss="ce", **common),
        torchattacks.APGDT(module, steps=100, n_classes=10, **common),
        torchattacks.FAB(module, steps=100, multi_targeted=True, n_classes=10, **common),
        torchattacks.Square(module, n_queries=5000, **common),
    ]
    whole = torchattacks.MultiAttack(parts)
    return lambda x, y: whole(x, y)


def by_torchattacks_shipped(subject: Target, module: nn.Module, work: str, eps: float) -> Attack:
    """torchattacks' own AutoAttack as it comes: 10 steps where the publication has 100."""
    import torchattacks

    attack = torchattacks.AutoAttack(module, norm="Linf", eps=eps, version="standard", n_classes=10, seed=0)
    return lambda x, y: attack(x, y)


def by_art(subject: Target, module: nn.Module, work: str, eps: float) -> Attack:
    """Adversarial Robustness Toolbox; its AutoAttack has its own composition (APGD-CE, APGD-DLR, DeepFool, Square)."""
    from art.attacks.evasion import AutoAttack, ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    shape = (3, 32, 32)
    model = PyTorchClassifier(module, nn.CrossEntropyLoss(), input_shape=shape, nb_classes=10, clip_values=(0, 1))
    if work == "pgd-20":
        attack = ProjectedGradientDescentPyTorch(
            model, eps=eps, eps_step=2.5 * eps / STEPS, max_iter=STEPS, num_random_init=1, batch_size=64, verbose=False
        )
    else:
        attack = AutoAttack(model, norm=np.inf, eps=eps, eps_step=2 * eps, batch_size=64)
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


LIBRARIES = {
    "assay": by_assay,
    "foolbox": by_foolbox,
    "torchattacks": by_torchattacks,
    "torchattacks-shipped": by_torchattacks_shipped,
    "art": by_art,
}


def main() -> None:
    """Parse, warm up, time, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("work", choices=("pgd-20", "standard"))
    parser.add_argument("--model", default="plain")
    parser.add_argument("--eps", type=lambda text: float(Fraction(text)), default=4 / 255)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    subject = target(options.model)
    module = WithNormalisation(subject).eval()
    x, y = images(options.images)
    attack = LIBRARIES[options.library](subject, module, options.work, options.eps)
    if options.work == "pgd-20":
        attack(x[:2], y[:2])
    wall, processor = time.perf_counter(), time.process_time()
    adversarial = attack(x, y)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    inside = float((adversarial - x).abs().max()) <= options.eps + 1e-6
    right = (subject.predict(x).argmax(1) == y) & (subject.predict(adversarial.detach()).argmax(1) == y)
    print(
        json.dumps(
            {
                "library": options.library,
                "wall_s": wall,
                "cpu_s": processor,
                "robust": int(right.sum()),
                "n": len(y),
                "inside": inside,
            }
        )
    )


if __name__ == "__main__":
    main()
