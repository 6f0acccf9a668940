"""Settings of canary queries: what is optimised, on how many shadows a step, from where and how far."""

from __future__ import annotations

from ...core.errors import SettingError
from ...core.settings import option, settings

EPSILON = 1 / 255
MODES = ("online", "offline")
OBJECTIVES = ("target-logit", "softmax", "log-logit", "ce", "reverse-ce", "cw", "reverse-cw", "kl")
AIMED = {"target-logit": (10.0, 0.0), "softmax": (1.0, 0.0), "log-logit": (10.0, 0.0)}
"""Objectives that pull an answer towards a number, and the numbers for IN and OUT models."""
_ALIKE = (("image", "none", "record"), ("zeros", "none", "record"))


@settings
class CanarySettings:
    """Settings of the optimisation of canary queries (Wen et al., arXiv 2210.10750).

    ``CanarySettings.published("online")`` has those of the published code.

    The default epsilon is the published one. On digits (perceptrons trained without augmentation, 24 shadows, 10
    targets, 400 records) online LiRA had an AUC of .690 with the records themselves as queries, .691 at 1/255,
    .692 at 4/255 and .684 at 16/255 with ``augment="none"``, differences within the standard error of .011, and .59
    with ``augment="crop-flip"``, optimised or not: choose the augmentation that the models were trained with.
    Without augmentation, ``draws="query"`` keeps the queries apart.
    """

    queries: int = option(default=10, help="queries a record", at_least=1)
    steps: int = option(default=30, help="steps of the optimisation", at_least=1)
    epsilon: float = option(default=EPSILON, help="largest change of a pixel (Linf), such as 1/255", at_least=0)
    mode: str = option(default="online", help="offline uses no model that saw the record", choices=MODES)
    objective: str = option(default="target-logit", help="what tells members from others", choices=OBJECTIVES)
    targets: tuple[float, ...] | None = option(
        default=None, help="what answers are pulled to, for IN and for OUT models; 10,0 (softmax: 1,0) if not given"
    )
    shadows: int = option(default=2, help="models drawn a step; online half of them saw the record", at_least=1)
    draws: str = option(
        default="record",
        help="whether the queries of a record meet the same models, as published, or each its own",
        choices=("record", "query"),
    )
    init: str = option(default="image", help="where a query starts", choices=("image", "zeros", "random"))
    augment: str = option(default="crop-flip", help="how queries differ", choices=("crop-flip", "none"))
    reduction: str = option(
        default="mean", help="how models of one kind are put together; sum as published", choices=("mean", "sum")
    )
    stop_loss: float | None = option(default=None, help="a query is finished once its loss is not above this")
    optimiser: str | None = option(
        default=None, help="adamw online and adam offline if not given", choices=("adam", "adamw")
    )
    learning_rate: float = option(default=0.05, help="of Adam, in units of the image", above=0)
    weight_decay: float = option(default=1e-3, help="towards mid-grey", at_least=0)

    def __post_init__(self) -> None:
        if self.mode == "online" and self.shadows % 2:
            raise SettingError(
                f"CanarySettings.shadows is {self.shadows}; online, half of the models drawn saw the record and half "
                "did not, so an even number is needed."
            )
        if self.objective == "kl" and self.mode == "offline":
            raise SettingError(
                "The objective 'kl' compares models that saw the record with models that did not, and offline there "
                "are none that did. Choose another objective, such as 'target-logit'."
            )
        if self.targets is not None and self.objective not in AIMED:
            raise SettingError(
                f"CanarySettings.targets does nothing with the objective {self.objective!r}, which pulls answers to no "
                f"number. Leave it out, or choose one of {', '.join(AIMED)}."
            )
        if self.targets is not None and len(self.targets) != 2:
            raise SettingError(f"CanarySettings.targets is {self.targets}; two numbers are needed, for IN and for OUT.")
        if self.draws == "query" and self.queries == 1:
            raise SettingError("CanarySettings.draws 'query' does nothing with one query. Leave it out.")
        if self.queries > 1 and (self.init, self.augment, self.draws) in _ALIKE:
            raise SettingError(
                f"With init {self.init!r}, augment 'none' and draws 'record' all {self.queries} queries are one and "
                "the same. Take queries=1, augment='crop-flip', draws='query' or init='random'."
            )

    @classmethod
    def published(cls, mode: str = "online") -> CanarySettings:
        """What the published code ran on CIFAR-10: sums over the models, and an early stop offline."""
        return cls(mode=mode, reduction="sum", stop_loss=23.0 if mode == "offline" else None)

    @property
    def decoupled(self) -> bool:
        """Whether weight decay is AdamW's."""
        return (self.optimiser or ("adamw" if self.mode == "online" else "adam")) == "adamw"

    @property
    def drawn(self) -> tuple[int, int]:
        """Models a step that saw the record, and that did not."""
        return (0, self.shadows) if self.mode == "offline" else (self.shadows // 2, self.shadows // 2)

    @property
    def aims(self) -> tuple[float, float]:
        """What answers of IN and of OUT models are pulled to, for the objectives that do."""
        inside, outside = self.targets or AIMED.get(self.objective, (0.0, 0.0))
        return inside, outside
