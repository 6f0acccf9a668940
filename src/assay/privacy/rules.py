"""Clip rules by name: what the command line and a recipe's settings choose from."""

from __future__ import annotations

from typing import Any

from ..core.errors import SettingError, did_you_mean
from .adaptive import GlobalAdapt, PerGroup
from .clipping import PSAC, AutoS, ClipRule, Flat, Global, PerLayer


def clip_rule(
    name: str,
    *,
    clip_norm: float = 1.0,
    upper_norm: float | None = None,
    tau: float = 0.7,
    z_rate: float = 0.1,
    count_noise: float = 10.0,
    centred: bool = True,
    gamma: float = 0.01,
    num_groups: int | None = None,
) -> ClipRule:
    """A clip rule by its name.

    Args:
        name: flat, per-layer, global, global-adapt, per-group, auto-s, psac or psac-dpcert.
        clip_norm: C (C0 of per-group).
        upper_norm: Z of global, first Z of global-adapt; both need it.
        tau, z_rate: τ and η of global-adapt.
        count_noise: standard deviation of the noise on the counts of global-adapt and per-group.
        centred: global-adapt releases the half-centred count.
        gamma: γ of auto-s, r of psac.
        num_groups: G of per-group.

    Raises:
        SettingError: unknown name, a value out of range, Z missing.

    >>> clip_rule("global-adapt", clip_norm=1, upper_norm=50).name
    'global-adapt'
    """

    def threshold() -> float:
        if upper_norm is None:
            raise SettingError(
                f"The clip rule {name!r} needs the upper threshold Z: set upper_norm to at least {clip_norm}. "
                "Published values are 50 and 100, which gradients of small networks rarely exceed."
            )
        return upper_norm

    makers: dict[str, Any] = {
        "flat": lambda: Flat(clip_norm),
        "per-layer": lambda: PerLayer(clip_norm),
        "global": lambda: Global(clip_norm, threshold()),
        "global-adapt": lambda: GlobalAdapt(clip_norm, threshold(), tau, z_rate, count_noise, centred),
        "per-group": lambda: PerGroup(clip_norm, num_groups, count_noise),
        "auto-s": lambda: AutoS(clip_norm, gamma),
        "psac": lambda: PSAC(clip_norm, gamma),
        "psac-dpcert": lambda: PSAC(clip_norm, gamma, "dpcert"),
    }
    if name not in makers:
        raise SettingError(f"There is no clip rule {name!r}.{did_you_mean(name, makers)}")
    rule: ClipRule = makers[name]()
    return rule
