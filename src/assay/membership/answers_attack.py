"""Attacks on answers that are there already, or on finished scores: no model is trained or asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import DataError, SettingError
from ..core.methods import MethodCard
from ..core.probes import Measurement
from ..core.progress import Progress
from ..core.settings import option, settings
from .exposure import Truth, expose, expose_scores, labels_of
from .exposure_numbers import measurement
from .membership_inference import questions_of
from .signals import Answers, Scored

CARD = MethodCard(
    name="membership-attack",
    kind="probe",
    title="Membership attack on given answers",
    summary="Who is told to be a member from answers of reference models and a target, and how often rightly.",
    settings="MembershipAttack",
)

GIVEN = "The scores were given as they are."


@dataclass(kw_only=True, eq=False)
class Evidence:
    """What the probe examines.

    Args:
        answers: of reference models and a target, or finished scores [N] by name; larger means more likely a member.
        truth: who is a member.
        name: what the answers are called in the report.
        seed: root of the random streams.
        progress: where progress is shown.
    """

    answers: Answers | Mapping[str, np.ndarray]
    truth: Truth
    name: str = "answers"
    seed: int = 0
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))

    def digest(self) -> str:
        """32 hex digits over all answers, or scores, and the truth."""
        state = hashlib.blake2b(digest_size=16)
        answers = self.answers
        if isinstance(answers, Mapping):
            pieces: list[Any] = [piece for name, one in sorted(answers.items()) for piece in (np.array(name), one)]
        else:
            pieces = [answers.in_mask, answers.target, answers.labels, np.array(answers.kind)]
            pieces += [answers.reference[model] for model in range(answers.models)]
            others = answers.population
            if others is not None:
                pieces += [others.target, others.labels, *(others.reference[model] for model in range(others.models))]
        for piece in (*pieces, self.truth.member, self.truth.labels, self.truth.groups):
            array = np.asarray([] if piece is None else piece)
            state.update(repr((array.shape, array.dtype.str)).encode())
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()


@settings
class MembershipAttack:
    """Settings of attacks on given answers."""

    attacks: tuple[str, ...] = option(
        default=(), help="attacks, the first one to be spoken of; default: lira, and loss to compare; none for scores"
    )
    fprs: tuple[float, ...] = option(default=(0.001, 0.01), help="shares of wrong accusations", above=0, below=1)
    priors: tuple[float, ...] = option(
        default=(0.5, 0.1, 0.01), help="shares of members among records that are looked at", above=0, below=1
    )
    mocks: int = option(default=8, help="reference models that play the target, to draw lines on", at_least=0)

    def __post_init__(self) -> None:
        if self.attacks:
            labels_of(self.attacks)

    def measure(self, examination: Any) -> Measurement:
        """Attack and judge; needs :class:`Evidence`."""
        if not isinstance(examination, Evidence):
            return Measurement(
                not_applicable="this probe works on answers that are there already; use: assay members attack."
            )
        questions = questions_of(self, None, examination.seed)
        if isinstance(examination.answers, Mapping):
            if self.attacks:
                raise SettingError("Finished scores were given, so that there is nothing to attack. Leave attacks out.")
            return measurement(expose_scores(_scored(examination.answers), examination.truth, questions))
        attacks = self.attacks or usual_attacks(examination.answers)
        return measurement(
            expose(examination.answers, examination.truth, attacks, questions, progress=examination.progress)
        )


def usual_attacks(answers: Answers) -> tuple[str, ...]:
    """The attacks for which there is what they need, the strongest first."""
    if answers.kind == "labels":
        return ("gap",)
    if not answers.models:
        return ("loss",)
    online = bool((answers.in_mask.sum(0) >= 1).any())
    first = "lira" if online else "lira:mode=offline"
    return (first, *(("rmia",) if answers.population is not None else ()), "loss")


def _scored(scores: Mapping[str, np.ndarray]) -> dict[str, Scored]:
    if not scores:
        raise DataError("There are no scores; give at least one array [N] by name.")
    found = {}
    for name, values in scores.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1:
            raise DataError(f"The scores {name!r} are {array.shape}; [N], one number a record, is needed.")
        found[str(name)] = Scored(scores=array, findings=[], about=GIVEN)
    return found
