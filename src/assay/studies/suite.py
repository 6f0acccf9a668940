"""Suites: what an audit examines, as a short YAML file.

    name: release
    data: {limit: 512}
    seed: 0
    probes:
      - clean-accuracy
      - robust-accuracy: {norm: linf, eps: [4/255, 8/255]}
    claims:
      - clean_accuracy >= 0.9
      - {claim: "robust_accuracy@linf:8/255 >= 0.4", confident: true}

Everything is checked before the first model call: an unknown probe, setting or
key is an error that names the one that was probably meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.claims import Claim, parse_claim
from ..core.errors import SettingError, did_you_mean
from ..core.methods import MethodCard, cards, settings_of
from ..core.settings import as_dict, build, coerce, option, settings
from .reading import read_yaml, read_yaml_file

BUILT_IN = Path(__file__).parent / "suites"
KEYS = ("name", "description", "data", "seed", "probes", "claims")
SHAPE = "a mapping with the key 'probes', such as 'probes: [clean-accuracy, calibration]'"


@settings
class DataChoice:
    """What a suite may say about the data; flags on the command line win."""

    limit: int | None = option(default=None, help="use the first so many samples", at_least=1)
    split: str | None = option(default=None, help="which split, where the data have several")


@dataclass(frozen=True, kw_only=True)
class PlannedProbe:
    """One probe of a suite: its card, the settings as given, and as resolved."""

    card: MethodCard
    given: dict[str, Any]
    settings: Any


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked suite."""

    name: str
    probes: tuple[PlannedProbe, ...]
    claims: tuple[Claim, ...] = ()
    data: DataChoice = field(default_factory=lambda: build(DataChoice, {}))
    seed: int = 0
    description: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The suite with every default written out, as the study record keeps it."""
        return {
            "name": self.name,
            "description": self.description,
            "data": as_dict(self.data),
            "seed": self.seed,
            "probes": [{probe.card.name: as_dict(probe.settings)} for probe in self.probes],
            "claims": [{"claim": claim.text, "confident": claim.confident} for claim in self.claims],
        }


def built_in_suites() -> list[str]:
    """Names of the suites that come with Assay."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def load_suite(source: str | Path) -> Suite:
    """Read a suite from a YAML file, or a built-in one by its name.

    Args:
        source: ``"standard"``, ``"quick"``, or the path of a YAML file.

    Returns:
        The suite, every probe and claim checked.

    Raises:
        SettingError: what is wrong, where, and what is allowed instead.

    >>> load_suite("quick").name
    'quick'
    """
    if str(source) in built_in_suites():
        return parse_suite(read_yaml_file(BUILT_IN / f"{source}.yaml"), where=f"suite {source!r}")
    path = Path(source)
    if not path.exists():
        raise SettingError(
            f"There is no suite file {str(source)!r}, and no built-in suite of that name."
            f"{did_you_mean(str(source), built_in_suites())} A suite is a path to a YAML file or a built-in name."
        )
    return parse_suite(read_yaml_file(path), where=str(path))


def parse_suite_text(text: str, *, where: str = "the suite") -> Suite:
    """Read a suite from YAML text."""
    return parse_suite(read_yaml(text, where=where), where=where)


def parse_suite(value: Any, *, where: str) -> Suite:
    """Check plain values (from YAML) and make a suite of them."""
    mapping = _mapping(value, where, SHAPE)
    for key in mapping:
        if key not in KEYS:
            raise SettingError(f"{where} has the unknown key {key!r}.{did_you_mean(str(key), KEYS)}")
    entries = mapping.get("probes")
    if not isinstance(entries, list) or not entries:
        raise SettingError(f"{where} has no list of probes; write {SHAPE}.")
    known = {card.name: card for card in cards("probe")}
    probes = tuple(_probe(entry, known, f"{where}, probe {index}") for index, entry in enumerate(entries, start=1))
    _refuse_repeats(probes, where)
    return Suite(
        name=_text(mapping.get("name", "custom"), f"{where}: name"),
        description=_text(mapping.get("description", ""), f"{where}: description"),
        data=build(DataChoice, _mapping(mapping.get("data") or {}, f"{where}: data", "{limit: 512}"), where=where),
        seed=_seed(mapping.get("seed", 0), where),
        probes=probes,
        claims=parse_claims(mapping.get("claims"), where=where),
    )


def parse_claims(value: Any, *, where: str) -> tuple[Claim, ...]:
    """The claims of a suite or a claims file; ``None`` means none."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise SettingError(f"{where}: claims is {_short(value)}; a list is needed, such as ['clean_accuracy >= 0.9'].")
    return tuple(parse_claim(item) for item in value)


def _probe(entry: Any, known: Mapping[str, MethodCard], where: str) -> PlannedProbe:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise SettingError(
            f"{where} is {_short(entry)}; write the name of a probe, or the name and its settings: "
            "'- calibration: {bins: 15}'."
        )
    name, given = next(iter(entry.items()))
    if name not in known:
        raise SettingError(f"{where}: there is no probe named {_short(name)}.{did_you_mean(str(name), known)}")
    given = _mapping(given or {}, f"{where}: the settings of {name!r}", "{setting: value}")
    card = known[name]
    return PlannedProbe(card=card, given=dict(given), settings=build(settings_of(card), given, where=where))


def _refuse_repeats(probes: tuple[PlannedProbe, ...], where: str) -> None:
    seen: set[str] = set()
    for probe in probes:
        key = f"{probe.card.name} {as_dict(probe.settings)}"
        if key in seen:
            raise SettingError(f"{where} lists the probe {probe.card.name!r} twice with the same settings; keep one.")
        seen.add(key)


def _mapping(value: Any, where: str, example: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingError(f"{where} is {_short(value)}; needed is a mapping of names to values, such as {example}.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{where} is {_short(value)}; text is needed.")
    return value


def _seed(value: Any, where: str) -> int:
    result = coerce(value, int, name=f"{where}: seed")
    if not 0 <= result < 2**63:
        raise SettingError(f"{where}: seed is {_short(value)}; a whole number from 0 to 2**63 - 1 is needed.")
    return int(result)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
