"""Probe: what is left of a mark after edits, plainly and by windows.

Every edit is applied to every marked document, with a random stream that follows from the edit and the document
alone. Detection is then at stated error rates: a document counts as found where its exact p-value is at most α.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import SettingError
from ..core.estimates import mcnemar, proportion
from ..core.methods import Citation, MethodCard, card
from ..core.probes import Column, Cost, Figure, Finding, Measurement, Metric, Series
from ..core.progress import Progress
from ..core.seeds import seed
from ..core.settings import fields_of, option, settings
from .edits.base import TEXT, NamedEdit, Tokenizer, edit_document, named_edits
from .normalisers import Normaliser, normaliser
from .rates import NAMES, passes, repeats, too_short
from .scoring import Columns, check_windows, columns_of, mean, score

if TYPE_CHECKING:
    from ..core.shards import Shards
    from .watermark import Watermark

CARD = MethodCard(
    name="watermark-attack",
    kind="probe",
    title="A watermark after edits",
    summary="How often marked text is still found after it was edited, and how far its z falls.",
    settings="WatermarkAttack",
    citation=Citation(
        key="kirchenbauer2024reliability",
        title="On the Reliability of Watermarks for Large Language Models",
        authors="Kirchenbauer, John and Geiping, Jonas and Wen, Yuxin and Shu, Manli and Saifullah, Khalid and "
        "Kong, Kezhi and Fernando, Kasun and Saha, Aniruddha and Goldblum, Micah and Goldstein, Tom",
        year=2024,
        venue="International Conference on Learning Representations",
        arxiv="2306.04634",
    ),
)

TOKEN_EDITS = ("substitute", "insert", "delete", "swap", "truncate")
TEXT_EDITS = ("case", "homoglyph", "zero-width", "retokenise")
UNEDITED = "none"


@dataclass(kw_only=True)
class Victims:
    """What the probe examines.

    Args:
        watermark: the mark.
        marked: ids of documents that carry it.
        human: ids of unmarked documents, for copy-paste.
        tokenizer: for edits of text.
        names: one a document; default: their numbers.
        seed: root of the random streams.
        shards: where finished blocks are kept.
        progress: where progress is shown.
    """

    watermark: Watermark
    marked: Sequence[np.ndarray]
    human: Sequence[np.ndarray] = ()
    tokenizer: Tokenizer | None = None
    names: Sequence[str] = ()
    seed: int = 0
    shards: Shards | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))


def usual_edits(*, human: bool, tokenizer: bool) -> tuple[str, ...]:
    """The edits that are tried by default, as far as there is what they need.

    Args:
        human: whether there is unmarked text.
        tokenizer: whether there is a tokenizer.

    >>> usual_edits(human=False, tokenizer=False)
    ('substitute', 'insert', 'delete', 'swap', 'truncate')
    """
    pasted = ("copy-paste:spans=1", "copy-paste:spans=3") if human else ()
    return (*TOKEN_EDITS, *pasted, *(TEXT_EDITS if tokenizer else ()))


def refuse_without_means(chosen: WatermarkAttack, *, human: bool, tokenizer: bool) -> None:
    """SettingError if an edit needs unmarked text or a tokenizer, and there is none."""
    for edit in chosen.chosen():
        if edit.name == "copy-paste" and not human:
            raise SettingError(f"The edit {edit.label!r} needs unmarked text of people. Give some: --human.")
        if edit.edit.level == TEXT and not tokenizer:
            raise SettingError(f"The edit {edit.label!r} changes text, which needs a tokenizer (--tokenizer).")


@settings
class WatermarkAttack:
    """Settings of the measurement under edits."""

    edits: tuple[str, ...] = option(
        default=TOKEN_EDITS, help="edits from 'assay ls edit', such as substitute:0.1,0.3 or copy-paste:spans=3"
    )
    fprs: tuple[float, ...] = option(default=(1e-3, 1e-5), help="stated false positive rates", above=0, below=1)
    windows: str = option(default="geometric", help="window sizes: geometric, max, a list such as 20,50, or none")
    unique_ngrams: bool = option(default=True, help="count repeated n-grams once")
    normalise: str = option(
        default="", help="normalisers of the detector, which see text after edits of text: unicode, homoglyphs or both"
    )

    def __post_init__(self) -> None:
        normaliser(self.normalise)
        check_windows(self.windows)
        if not self.edits or not self.fprs:
            raise SettingError("WatermarkAttack needs at least one edit and one false positive rate.")
        object.__setattr__(self, "fprs", tuple(sorted(set(self.fprs), reverse=True)))
        self.chosen()

    def chosen(self) -> list[NamedEdit]:
        """Every edit with one strength, without repetition."""
        found = {edit.label: edit for text in self.edits for edit in named_edits(text)}
        return list(found.values())

    def expected_cost(self, *, samples: int, classes: int = 0) -> Cost:
        """No pass of a model: detection needs none."""
        return Cost()

    def measure(self, examination: Any) -> Measurement:
        """Rates and mean z by edit; needs :class:`Victims`."""
        if not isinstance(examination, Victims):
            return Measurement(not_applicable="this probe examines marked text; use assay watermark attack.")
        victims, started = examination, time.monotonic()
        edits = self.chosen()
        tables = {UNEDITED: self._score(victims, victims.marked, "unedited documents")}
        for edit in edits:
            tables[edit.label] = self._score(victims, edited(edit, victims, normaliser(self.normalise)), edit.label)
        columns = {name: np.concatenate([table[name] for table in tables.values()]) for name in tables[UNEDITED]}
        names = [str(name) for name in victims.names] or [str(number) for number in range(len(victims.marked))]
        samples = {
            "edit": np.repeat(np.array(list(tables), dtype=object), len(names)),
            "document": np.tile(np.array(names, dtype=object), len(tables)),
            **columns,
        }
        metrics = [metric for label, table in tables.items() for metric in self._metrics(label, table, victims.seed)]
        return Measurement(
            metrics=metrics,
            samples=samples,
            findings=[
                *too_short(tables[UNEDITED]["scored"]),
                *repeats(victims.marked),
                *_weak(tables[UNEDITED], self.fprs[0]),
                *_windows_help(tables, self.fprs[0]),
            ],
            figures=[_matrix(tables, metrics, self.fprs), *_figures(edits, tables, self.fprs[0])],
            cost=Cost(seconds=time.monotonic() - started),
        )

    def _score(self, victims: Victims, documents: Sequence[np.ndarray], name: str) -> Columns:
        return score(
            victims.watermark,
            documents,
            windows=self.windows,
            unique=self.unique_ngrams,
            shards=victims.shards,
            name=name,
            progress=victims.progress,
        )

    def _metrics(self, label: str, table: Columns, root: int) -> list[Metric]:
        stratum = "" if label == UNEDITED else f"edit={label}"
        found = []
        for name, z, column in columns_of(table):
            how = " by the best window" if name else ""
            found += [
                Metric.from_estimate(
                    f"{name}true_positive_rate@p:{fpr:g}",
                    proportion(int(passes(table[column], fpr).sum()), len(table[column])),
                    estimand=f"share of marked documents called marked{how} because their p-value is at most {fpr:g}",
                    stratum=stratum,
                )
                for fpr in self.fprs
            ]
            found.append(
                Metric.from_estimate(
                    f"{name}mean_z",
                    mean(table[z], seed=seed(root, "watermark-attack", name, label)),
                    estimand=f"mean z of marked documents{how}",
                    unit="",
                    stratum=stratum,
                )
            )
        return found


class _Edited(Sequence[np.ndarray]):
    """Documents after an edit, made when they are asked for."""

    def __init__(self, edit: NamedEdit, victims: Victims, clean: Normaliser) -> None:
        self.edit, self.victims, self.clean = edit, victims, clean

    def __len__(self) -> int:
        return len(self.victims.marked)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return edit_document(
            self.edit,
            self.victims.marked[place],
            root=self.victims.seed,
            vocab_size=self.victims.watermark.settings.vocab_size,
            human=self.victims.human,
            tokenizer=self.victims.tokenizer,
            clean=self.clean,
        )


def edited(edit: NamedEdit, victims: Victims, clean: Normaliser = str) -> Sequence[np.ndarray]:
    """All documents after an edit; one is made when it is asked for, so that blocks that are done cost nothing."""
    return _Edited(edit, victims, clean)


def _rate(table: Columns, column: str, fpr: float) -> Any:
    return proportion(int(passes(table[column], fpr).sum()), len(table[column]))


def _figures(edits: Sequence[NamedEdit], tables: dict[str, Columns], fpr: float) -> list[Figure]:
    """The true positive rate against the strength: all edits together, and each with both detectors."""
    families: dict[str, list[NamedEdit]] = {}
    for edit in edits:
        if edit.strength is not None:
            families.setdefault(edit.family, []).append(edit)
    lines = {
        family: sorted(members, key=lambda edit: edit.strength or 0.0)
        for family, members in families.items()
        if len(members) > 1
    }
    n, both = len(tables[UNEDITED]["z"]), columns_of(tables[UNEDITED])
    caption = f"Share of {n:,} marked documents that are still found with p at most {fpr:g}"
    found = []
    together = {family: members for family, members in lines.items() if members[0].edit.strength == "rate"}
    if len(together) > 1:
        found.append(
            Figure(
                name="tpr-by-strength",
                title="Detection against the strength of edits",
                caption=f"{caption}, by plain detection.",
                kind="line",
                x_label="rate of the edit",
                y_label="true positive rate",
                series=tuple(
                    _line(family, members, tables, "log10_p", fpr, band=False) for family, members in together.items()
                ),
                y_limits=(0.0, 1.0),
            )
        )
    for family, members in lines.items():
        kind = type(members[0].edit)
        meaning = next(field.metadata["help"] for field, _ in fields_of(kind) if field.name == kind.strength)
        found.append(
            Figure(
                name="tpr-" + "".join(sign if sign.isalnum() else "-" for sign in family),
                title=f"After {_words(members[0])}",
                caption=f"{caption}, with exact 95% intervals.",
                kind="line",
                x_label=meaning,
                y_label="true positive rate",
                series=tuple(_line(NAMES[name], members, tables, column, fpr) for name, _, column in both),
                y_limits=(0.0, 1.0),
            )
        )
    return found


def _words(edit: NamedEdit) -> str:
    """An edit in words, without its strength: ``"copy-paste into human text, spans=3"``."""
    title = card(edit.name, "edit").title
    return ", ".join([title[0].lower() + title[1:], *edit.family.split(" ")[1:]])


def _line(
    label: str, members: Sequence[NamedEdit], tables: dict[str, Columns], column: str, fpr: float, *, band: bool = True
) -> Series:
    points = [(edit.strength or 0.0, edit.label) for edit in members]
    if members[0].edit.strength == "rate" and points[0][0] > 0:
        points.insert(0, (0.0, UNEDITED))
    rates = [_rate(tables[place], column, fpr) for _, place in points]
    return Series(
        label=label,
        x=tuple(strength for strength, _ in points),
        y=tuple(rate.value for rate in rates),
        lo=tuple(rate.lo for rate in rates) if band else None,
        hi=tuple(rate.hi for rate in rates) if band else None,
    )


def _matrix(tables: dict[str, Columns], metrics: Sequence[Metric], fprs: Sequence[float]) -> Figure:
    """All edits in a table: rates at each stated error rate, and the mean z."""
    heads: dict[str, Column] = {}
    by_row: dict[str, list[tuple[str, Metric]]] = {label: [] for label in tables}
    for metric in metrics:
        prefix = "windowed_" if metric.name.startswith("windowed_") else ""
        rest = metric.name.removeprefix(prefix)
        words = f"TPR, p ≤ {rest.partition(':')[2]}" if rest.startswith("true") else "mean z"
        head = f"{words} ({NAMES[prefix]})"
        share = metric.unit == "share"
        heads[head] = Column(name=head, unit=metric.unit, direction="higher", limits=(0.0, 1.0) if share else None)
        by_row[metric.stratum.removeprefix("edit=") or UNEDITED].append((head, metric))
    series = []
    for label, row in by_row.items():
        series.append(
            Series(
                label="unedited" if label == UNEDITED else label,
                x=tuple(head for head, _ in row),
                y=tuple(metric.value for _, metric in row),
                lo=tuple(metric.value if metric.lo is None else metric.lo for _, metric in row),
                hi=tuple(metric.value if metric.hi is None else metric.hi for _, metric in row),
            )
        )
    return Figure(
        name="edits",
        title="What is left of the mark",
        caption=f"n = {len(tables[UNEDITED]['z']):,} marked documents after each edit; 95% intervals below the values.",
        kind="matrix",
        x_label="",
        y_label="edit",
        series=tuple(series),
        columns=tuple(heads.values()),
    )


def _weak(table: Columns, fpr: float) -> list[Finding]:
    """A finding if the mark is hardly found before any edit."""
    rate = _rate(table, "log10_p", fpr)
    if rate.value >= 0.5:
        return []
    return [
        Finding(
            code="weak-mark",
            severity="warning",
            message=f"Only {rate.value:.0%} of the documents are found with p at most {fpr:g} before any edit, so that "
            "edits have little to take away.",
            remedy="Check key, scheme and vocabulary size; or give longer documents, or a stronger mark.",
            value=rate.value,
        )
    ]


def _windows_help(tables: dict[str, Columns], fpr: float) -> list[Finding]:
    """Where windows find significantly more, or fewer, than plain detection."""
    if "window_z" not in tables[UNEDITED]:
        return []
    more: list[str] = []
    fewer: list[str] = []
    for label, table in tables.items():
        plain, window = passes(table["log10_p"], fpr), passes(table["window_log10_p"], fpr)
        test = mcnemar(plain, window)
        if test.p_value < 0.05 / len(tables):
            text = f"{'no edit' if label == UNEDITED else label} ({plain.mean():.0%} plain, {window.mean():.0%} WinMax)"
            (fewer if test.only_first > test.only_second else more).append(text)
    found = []
    for code, words, which in (("windows-help", "more", more), ("windows-cost", "fewer", fewer)):
        if which:
            found.append(
                Finding(
                    code=code,
                    severity="info",
                    message=f"WinMax finds {words} documents than plain detection after {'; '.join(which)}.",
                )
            )
    return found
