"""Models on the handwritten digits of scikit-learn, and the exact distances of the linear one."""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from assay.subjects.target import Target
from assay.subjects.tasks import Classification


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """All 1797 digits in [0, 1], [N, 1, 8, 8], in a fixed shuffled order, and their labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = torch.tensor(data.images[order] / 16, dtype=torch.float32)[:, None]
    return images, torch.tensor(data.target[order], dtype=torch.int64)


def some(count: int, start: int = 1200) -> tuple[Tensor, Tensor]:
    """Digits that no model here was fitted on."""
    images, labels = digits()
    return images[start : start + count].clone(), labels[start : start + count].clone()


@functools.cache
def _softmax_weights(classes: int) -> tuple[Tensor, Tensor]:
    images, labels = digits()
    rows = (labels[:1200] < classes).nonzero()[:, 0]
    fitted = LogisticRegression(max_iter=2000, C=0.3).fit(images[rows].flatten(1), labels[rows])
    weight, bias = fitted.coef_, fitted.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32)


def softmax_regression(classes: int = 10) -> nn.Sequential:
    """Softmax regression on the digits below ``classes``."""
    layer = nn.Linear(64, classes)
    layer.weight.data, layer.bias.data = (value.clone() for value in _softmax_weights(classes))
    return nn.Sequential(nn.Flatten(), layer).eval()


@functools.cache
def _trained() -> dict[str, Tensor]:
    images, labels = (part[:1200] for part in digits())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _network()
        optimiser = torch.optim.Adam(net.parameters(), lr=4e-3)
        for _ in range(6):
            for rows in torch.randperm(1200).split(50):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
                optimiser.step()
    return net.state_dict()


def _network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
    )


def small_cnn() -> nn.Sequential:
    """A convolutional network with BatchNorm, about 96 % right."""
    net = _network()
    net.load_state_dict(_trained())
    return net.eval()


def as_target(model: object, classes: int = 10) -> Target:
    return Target(model, task=Classification(num_classes=classes))


def exact_distances(images: Tensor, labels: Tensor, model: nn.Sequential, kind: str) -> np.ndarray:
    """The distance of each sample to the nearest point of the box that a linear model gets wrong: [N], 0 where wrong.

    Against each other class the smallest move onto the plane of equal logits within the box:
    by bisection on its Lagrange multiplier for Linf and L2, as a linear program for L1.
    """
    weight = model[1].weight.detach().double().numpy()
    bias = model[1].bias.detach().double().numpy()
    points = images.flatten(1).double().numpy()
    found = np.full(len(points), np.inf)
    for row, label in enumerate(labels.tolist()):
        for other in set(range(len(bias))) - {label}:
            normal = weight[other] - weight[label]
            need = -(normal @ points[row] + bias[other] - bias[label])
            found[row] = min(found[row], 0.0 if need <= 0 else _onto_plane(points[row], normal, need, kind))
    return found


def _onto_plane(point: np.ndarray, normal: np.ndarray, need: float, kind: str) -> float:
    """min ||d|| with <normal, d> = need > 0 and point + d in the unit box."""
    if kind == "l1":
        limits = [*((0, 1 - value) for value in point), *((0, value) for value in point)]
        costs = linprog(np.ones(2 * len(point)), A_eq=[[*normal, *-normal]], b_eq=[need], bounds=limits)
        return float(costs.fun) if costs.status == 0 else np.inf

    def move(level: float) -> np.ndarray:
        way = np.sign(normal) if kind == "linf" else normal
        return np.clip(point + level * way, 0, 1) - point

    low, high = 0.0, 1.0
    while normal @ move(high) < need:
        low, high = high, 2 * high
        if high > 1e9:
            return np.inf
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if normal @ move(middle) < need else (low, middle)
    change = move(high)
    return float(np.abs(change).max() if kind == "linf" else np.linalg.norm(change))
