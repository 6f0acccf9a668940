"""Privacy: training with differential privacy, its accounting, and who pays for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from ..tensors.gradients import per_sample_gradients
    from .accounting import calibrate_noise, effective_noise, epsilon, gaussian_epsilon
    from .adaptive import GlobalAdapt, PerGroup
    from .clipping import PSAC, AutoS, ClipRule, Flat, Global, PerLayer
    from .decomposition import GroupMisalignment, misalignment
    from .dp_cert import DPCert
    from .dp_sgd import DPSGD
    from .ledger import Event, Ledger, LedgerFile
    from .mechanism import PrivateGradient, Release
    from .noise import NoiseSource, SecureNoise, SeededNoise, poisson_sample, sampling_seeds
    from .rules import clip_rule
    from .statements import delta_remark, statement

METHODS: tuple[str, ...] = ("dp_cert", "dp_sgd", "gradient_misalignment", "privacy_cost", "private_training")

__all__ = [
    "DPSGD",
    "METHODS",
    "PSAC",
    "AutoS",
    "ClipRule",
    "DPCert",
    "Event",
    "Flat",
    "Global",
    "GlobalAdapt",
    "GroupMisalignment",
    "Ledger",
    "LedgerFile",
    "NoiseSource",
    "PerGroup",
    "PerLayer",
    "PrivateGradient",
    "Release",
    "SecureNoise",
    "SeededNoise",
    "calibrate_noise",
    "clip_rule",
    "delta_remark",
    "effective_noise",
    "epsilon",
    "gaussian_epsilon",
    "misalignment",
    "per_sample_gradients",
    "poisson_sample",
    "sampling_seeds",
    "statement",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AutoS": ".clipping",
        "ClipRule": ".clipping",
        "DPCert": ".dp_cert",
        "DPSGD": ".dp_sgd",
        "Event": ".ledger",
        "Flat": ".clipping",
        "Global": ".clipping",
        "GlobalAdapt": ".adaptive",
        "GroupMisalignment": ".decomposition",
        "Ledger": ".ledger",
        "LedgerFile": ".ledger",
        "NoiseSource": ".noise",
        "PSAC": ".clipping",
        "PerGroup": ".adaptive",
        "PerLayer": ".clipping",
        "PrivateGradient": ".mechanism",
        "Release": ".mechanism",
        "SecureNoise": ".noise",
        "SeededNoise": ".noise",
        "calibrate_noise": ".accounting",
        "clip_rule": ".rules",
        "delta_remark": ".statements",
        "effective_noise": ".accounting",
        "epsilon": ".accounting",
        "gaussian_epsilon": ".accounting",
        "misalignment": ".decomposition",
        "per_sample_gradients": "..tensors.gradients",
        "poisson_sample": ".noise",
        "sampling_seeds": ".noise",
        "statement": ".statements",
    },
)
