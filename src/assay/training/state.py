"""What a recipe works with: the model in training, its optimiser, its weight average, and the counters."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.errors import InputError
from ..core.probes import Cost
from ..core.seeds import seed as named_seed
from .recipe import Companion
from .schedules import factor

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .job import TrainSettings


class TrainState:
    """The model in training.

    With several processes each holds the whole model; gradients are summed over
    them in :meth:`apply`, once a step, whatever passes the recipe made before.

    Args:
        accelerator: device and processes.
        network: the module that is trained.
        normalize: preprocessing in front of it.
        settings: optimiser, schedule, precision.
        steps_per_epoch: steps in an epoch.
        seed: root of the random streams.

    Attributes:
        step: number of updates made; with the settings and the seed it is the whole
            state of schedule, sampler and random numbers.
        cost: passes so far, in samples.
        companion: what the recipe keeps beside the model.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        normalize: nn.Module,
        settings: TrainSettings,
        *,
        steps_per_epoch: int,
        seed: int,
    ) -> None:
        self.accelerator, self.settings, self.seed = accelerator, settings, seed
        self.steps_per_epoch = steps_per_epoch
        self.network = network
        whole = nn.Sequential(OrderedDict(normalize=normalize, network=network))
        self.model = whole.to(accelerator.device)
        self.optimizer = _optimizer(network, settings)
        self.average: dict[str, Tensor] | None = None
        self.decay: Callable[[int], float] | None = None
        if settings.ema is not None:
            self.keep_average(partial(_forgetful, settings.ema))
        self.precision = settings.precision
        self.step = 0
        self.cost = Cost()
        self.companion = Companion()
        self._weights: dict[str, Tensor] | None = None

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.settings.epochs * self.steps_per_epoch

    @property
    def learning_rate(self) -> float:
        """The learning rate of the step about to be taken."""
        settings = self.settings
        return settings.learning_rate * factor(
            settings.schedule,
            self.step,
            total=self.total_steps,
            warmup=round(settings.warmup_epochs * self.steps_per_epoch),
        )

    @property
    def place(self) -> str:
        """The step about to be taken, for messages."""
        epoch = self.step // self.steps_per_epoch + 1
        return f"step {self.step + 1} (epoch {epoch}, learning rate {self.learning_rate:g})"

    def logits(self, images: Tensor) -> Tensor:
        """Logits of raw images in float32: [b, C, H, W] -> [b, K]; 1 forward pass a sample."""
        output: Tensor = self.outputs(images)
        return output.float()

    def outputs(self, images: Tensor, network: Callable[[Tensor], Any] | None = None) -> Any:
        """Whatever the network returns for raw images [b, C, H, W], with the preprocessing in front of it.

        Args:
            images: raw images.
            network: what is called in the place of the model's own network, such as a frozen teacher.

        Cost: 1 forward pass a sample.
        """
        self.cost.forward += len(images)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            if network is not None:
                return network(self.model.get_submodule("normalize")(images))
            if self._weights is None:
                return self.model(images)
            return functional_call(self.model, self._weights, (images,))

    def backward(self, loss: Tensor, samples: int) -> None:
        """Add the gradients of a scalar by the weights; ``samples`` backward passes are counted."""
        self.cost.backward += samples
        self.accelerator.backward(loss)

    @contextmanager
    def evaluating(self, *, average: bool = False) -> Iterator[None]:
        """Evaluation mode inside, each module's own mode afterwards; with the averaged weights where wanted."""
        modes = [(module, module.training) for module in self.model.modules()]
        earlier = self._weights
        if average and self.average is not None:
            self._weights = {f"network.{name}": value for name, value in self.average.items()}
        try:
            self.model.eval()
            yield
        finally:
            self._weights = earlier
            for module, mode in modes:
                module.training = mode

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights inside, each module in its own mode; batch statistics are left as they are."""
        assert self.average is not None
        earlier = self._weights
        own = {name: self.average.get(name, value).clone() for name, value in self.network.named_buffers()}
        self._weights = {f"network.{name}": value for name, value in {**self.average, **own}.items()}
        try:
            yield
        finally:
            self._weights = earlier

    def keep_average(self, decay: Callable[[int], float]) -> None:
        """Average the weights from here on: a <- d a + (1 - d) w after step t, with d = decay(t)."""
        self.average, self.decay = _floats(self.network), decay

    @contextmanager
    def holding(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Other weights in the place of the model's own, in float32, for a measurement; no training inside."""
        earlier = self.average, self.precision
        self.average = {name: value.to(self.accelerator.device) for name, value in weights.items()}
        self.precision = "fp32"
        try:
            yield
        finally:
            self.average, self.precision = earlier

    def begin_step(self) -> None:
        """Training mode, no gradients, and random numbers that are a function of seed, step and process."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = named_seed(self.seed, "step", self.step, self.accelerator.process_index)
        torch.default_generator.manual_seed(value)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(value)
        np.random.seed(value % 2**32)
        random.seed(value)

    def apply(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """One update from the gradients at hand: sum over processes, check, clip, step, average.

        Args:
            scalars: what the recipe returned.

        Returns:
            The scalars as means over the global batch.

        Raises:
            InputError: loss or gradient is not finite; the weights are left as they were.
        """
        values = self._synchronise(scalars)
        rate = self.learning_rate
        limit = self.settings.gradient_clip or math.inf
        size = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        self._check(values.get("loss", 0.0), size)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return values

    def total(self, share: Tensor) -> Tensor:
        """The sum over processes of a tensor that each of them has a share of."""
        if self.accelerator.num_processes > 1:
            share = _reduced(self.accelerator, [share.clone()], "sum")[0]
        return share

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights to use: the average where there is one, on the CPU."""
        state = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        if self.average is not None:
            state |= {name: value.cpu().clone() for name, value in self.average.items()}
        return state

    def state_dict(self) -> dict[str, Any]:
        """All that a bit-exact continuation needs: tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "passes": [self.cost.forward, self.cost.backward],
            "companion": self.companion.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            for name, value in self.average.items():
                value.copy_(state["average"][name])
        self.step = state["step"]
        self.cost.forward, self.cost.backward = state["passes"]
        self.companion.load_state_dict(state["companion"])

    def _synchronise(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """Sum gradients and scalars over the processes, average the batch statistics: two messages at most."""
        parts = [value.detach().float() for value in scalars.values()]
        shares = torch.stack(parts) if parts else torch.zeros(0, device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            shares = _reduced(self.accelerator, [shares, *gradients], "sum")[0]
            running = [b for b in self.network.buffers() if b.is_floating_point()]
            if running:
                _reduced(self.accelerator, running, "mean")
        return dict(zip(scalars, shares.tolist(), strict=True))

    def _check(self, loss: float, size: float) -> None:
        if math.isfinite(loss) and math.isfinite(size):
            return
        raise InputError(
            f"Training diverged: at {self.place} the loss is {loss:g} and the gradient norm {size:g}. Train with a "
            "smaller learning_rate, warmup_epochs or gradient_clip, in a new output folder; "
            "the last checkpoint before this step is kept."
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        """a <- d a + (1 - d) w."""
        if self.average is None or self.decay is None:
            return
        decay = self.decay(self.step)
        for name, value in _floats(self.network, copy=False).items():
            self.average[name].lerp_(value, 1 - decay)


def _forgetful(decay: float, step: int) -> float:
    """min(decay, (1 + t) / (10 + t)), so that the start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


def _optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    parameters = network.parameters()
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov and settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )


def _floats(network: nn.Module, *, copy: bool = True) -> dict[str, Tensor]:
    """Parameters and batch statistics: all that is averaged."""
    found = {name: value.detach() for name, value in network.state_dict().items() if value.is_floating_point()}
    return {name: value.clone() for name, value in found.items()} if copy else found


def _reduced(accelerator: Accelerator, tensors: list[Tensor], how: str) -> list[Tensor]:
    """The tensors summed or averaged over the processes, in place, in one message."""
    flat = accelerator.reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), how)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.reshape(tensor.shape))
    return tensors
