"""A reproduction's specification: experiments, methods, seeds and tiers, and the grid of jobs they make."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from assay.core.errors import SettingError, did_you_mean

HERE = Path(__file__).resolve().parent
SPEC = "spec.yaml"
EXPERIMENT_KEYS = {
    "title", "data", "network", "groups", "training", "privacy", "methods", "seeds", "certify", "measure",
    "plan", "needs",
}  # fmt: skip
METHOD_KEYS = {
    "title", "recipe", "settings", "training", "seeds", "sigma", "matched", "measure", "start", "encoder", "plan"
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training and its measurement, or other work that the paper's code does as a whole.

    Args:
        experiment: name of the experiment, such as ``"mnist"``.
        method: name of the method, such as ``"dpsgd"``.
        seed: root of every random stream.
        plan: everything else that decides the result: data, network, recipe, settings, training, measurement; where
            it names ``work`` that is no training, what the specification says under ``plan``.
    """

    experiment: str
    method: str
    seed: int
    plan: dict[str, Any]

    @property
    def name(self) -> str:
        """Such as ``"mnist/dpsgd/seed-0"``."""
        return f"{self.experiment}/{self.method}/seed-{self.seed}"

    @property
    def digest(self) -> str:
        """Eight digits that change whenever the plan does."""
        text = json.dumps([self.experiment, self.method, self.seed, self.plan], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()

    @property
    def folder(self) -> str:
        """Where the job lies in the work folder; a changed plan lies elsewhere, so nothing stale is taken up."""
        return f"{self.name}-{self.digest}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the file that a worker process reads."""
        return {"experiment": self.experiment, "method": self.method, "seed": self.seed, "plan": self.plan}


@dataclass(frozen=True)
class Spec:
    """``spec.yaml`` of one paper, and the code that measures and reports it."""

    paper: str
    folder: Path
    content: dict[str, Any]

    def largest_tier(self, experiment: str, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
        """The largest tier that has results of an experiment; None: there are none."""
        tiers = [tier for tier in ("published", "cpu") if experiment in self.content["tiers"][tier]]
        return next((t for t in tiers if any(row["experiment"] == experiment for row in results.get(t, []))), None)

    def jobs(self, tier: str, *, only: str = "", seeds: Sequence[int] | None = None) -> list[Job]:
        """The jobs of a tier, seed by seed, so that an early stop leaves whole rows of the tables.

        Args:
            tier: a key of ``tiers``.
            only: a regular expression that a job's name must hold.
            seeds: these seeds in the place of the tier's.

        Raises:
            SettingError: there is no such tier, or the specification holds an unknown key.
        """
        tiers = self.content["tiers"]
        if tier not in tiers:
            raise SettingError(f"{self.paper} has no tier {tier!r}.{did_you_mean(tier, tiers)}")
        made = []
        for name in tiers[tier]:
            experiment = self.experiment(tier, name)
            for method, own in experiment["methods"].items():
                for seed in seeds or own.get("seeds", experiment["seeds"]):
                    made.append(self.job(tier, name, method, int(seed)))
        order = list(tiers[tier])
        made.sort(key=lambda job: (order.index(job.experiment), job.seed))
        return [job for job in made if re.search(only, job.name)]

    def job(self, tier: str, name: str, method: str, seed: int) -> Job:
        """One job; its plan says where the jobs lie that it needs, or the one of the same seed that it starts from."""
        experiment = self.experiment(tier, name)
        if method not in experiment["methods"]:
            raise SettingError(f"{name!r} has no method {method!r}.{did_you_mean(method, experiment['methods'])}")
        own = experiment["methods"][method]
        if "plan" in experiment:
            plan = merged(experiment["plan"], own.get("plan", {}))
            needed = {role: self.job(tier, *_named(text)) for role, text in experiment.get("needs", {}).items()}
            plan["needs"] = {role: job.folder for role, job in needed.items()}
            return Job(name, method, seed, plan)
        plan = _plan(experiment, own)
        if "start" in own:
            if own["start"] not in experiment["methods"]:
                hint = did_you_mean(own["start"], experiment["methods"])
                raise SettingError(f"The method {method!r} starts from {own['start']!r}, which is no method.{hint}")
            begun = self.job(tier, name, own["start"], seed)
            plan["start"] = {"folder": begun.folder, "encoder": begun.plan.get("encoder")}
        return Job(name, method, seed, plan)

    def experiment(self, tier: str, name: str) -> dict[str, Any]:
        """An experiment with the changes of a tier; methods that the tier sets to nothing are left out."""
        changes = self.content["tiers"][tier][name] or {}
        known = self.content["experiments"]
        if name not in known:
            raise SettingError(f"{self.paper} has no experiment {name!r}.{did_you_mean(name, known)}")
        found = merged(known[name], changes)
        _check(found, EXPERIMENT_KEYS, f"The experiment {name!r} of {self.paper}")
        found["methods"] = {method: own for method, own in found["methods"].items() if own is not None}
        for method, own in found["methods"].items():
            _check(own, METHOD_KEYS, f"The method {method!r} of {self.paper}")
        return found

    def code(self) -> ModuleType:
        """``paper.py`` of the folder: how a trained model is measured, and what is reported of it."""
        path = self.folder / "paper.py"
        spec = importlib.util.spec_from_file_location(f"reproductions_{self.paper.replace('-', '_')}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def papers() -> list[str]:
    """The papers that have a specification."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{SPEC}"))


def load_spec(paper: str) -> Spec:
    """The specification of a paper.

    Raises:
        SettingError: there is none of that name.
    """
    key = paper.strip("/").removeprefix("reproductions/").replace("_", "-")
    if key not in papers():
        raise SettingError(f"There is no reproduction of {paper!r}.{did_you_mean(key, papers())}")
    folder = HERE / key
    return Spec(key, folder, yaml.safe_load((folder / SPEC).read_text(encoding="utf-8")))


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, mapping by mapping.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    found = copy.deepcopy(dict(base))
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else copy.deepcopy(value)
    return found


def _named(text: str) -> tuple[str, str, int]:
    """Experiment, method and seed, from ``EXPERIMENT/METHOD/seed-N``."""
    found = re.fullmatch(r"([\w-]+)/([\w-]+)/seed-(\d+)", text)
    if found is None:
        raise SettingError(f"`needs` names {text!r}; a job is named EXPERIMENT/METHOD/seed-N.")
    return found[1], found[2], int(found[3])


def _plan(experiment: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    recipe, settings = own["recipe"], dict(own.get("settings", {}))
    plan = {
        "data": experiment["data"],
        "network": experiment["network"],
        "recipe": recipe,
        "settings": settings,
        "training": merged(experiment["training"], own.get("training", {})),
        "privacy": None if recipe == "standard" or "noise_multiplier" in settings else experiment.get("privacy"),
    }
    if "certify" in experiment:
        plan["certify"] = merged(experiment["certify"], {"sigma": own["sigma"]})
    if "measure" in experiment:
        plan["measure"] = merged(experiment["measure"], own.get("measure", {}))
    if "encoder" in own:
        plan["encoder"] = own["encoder"]
    return plan


def _check(found: Mapping[str, Any], known: set[str], what: str) -> None:
    for key in found:
        if key not in known:
            raise SettingError(f"{what} has the unknown key {key!r}.{did_you_mean(key, sorted(known))}")
