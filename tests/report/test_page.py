"""The page: everything a reviewer must find is there, and nothing from outside is ever markup."""

from __future__ import annotations

import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.claims import Claim, Verdict, check
from assay.core.errors import Incomplete, RunError
from assay.core.probes import Figure, Finding, Gallery, Measurement, Metric, Series
from assay.report import write_report
from assay.report.content import outcome

from .builder import COMMAND, DATA, NAN_METRIC, TARGET, accuracy, failed_run, make_study, pictures, rate, write_run

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


class Tags(HTMLParser):
    """Names and attributes of all elements, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        if self.names[-1:] != ["style"]:
            self.text += data


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    folder = tmp_path_factory.mktemp("audit")
    runs, study, verdicts = make_study(folder)
    return write_report(folder, runs, study=study, verdicts=verdicts).read_text(encoding="utf-8"), runs


def test_sections_come_in_the_promised_order(audit: tuple[str, Any]) -> None:
    page, runs = audit
    order = ["verdict", "claims", "key", *(f"run-{i + 1}" for i in range(len(runs)))]
    order += ["not-tested", "provenance", "credits"]
    ids = Tags(page).ids
    assert [name for name in ids if name in order] == order


def test_headline_counts_and_says_which_way_it_went(audit: tuple[str, Any]) -> None:
    text = Tags(audit[0]).text
    assert "Failed" in text
    assert "3 passed, 1 failed, 1 not run" in text
    assert "1 claim could not be checked, which does not count as passing." in text
    assert "3 February 2026, 09:30 UTC" in text


def test_every_metric_has_value_interval_samples_and_interval_method(audit: tuple[str, Any]) -> None:
    text = Tags(audit[0]).text
    for part in ("95.6\u202f%", "93.2 – 97.3\u202f%", "clopper-pearson 95%", "0.713", "0.655 – 0.770"):
        assert part in text


def test_strata_stand_worst_first(audit: tuple[str, Any]) -> None:
    text = Tags(audit[0]).text
    strata = text[text.index("by class, worst first") :]
    assert strata.index("eight") < strata.index("three") < strata.index("nine") < strata.index("zero")


def test_what_was_not_tested_names_the_run_that_failed(audit: tuple[str, Any]) -> None:
    text = Tags(audit[0]).text
    text = text[text.index("Silence is not a pass") :]
    assert "Robust accuracy, L1 (did not finish: error): the model returned NaN for sample 12" in text
    assert "Privacy: membership inference" in text


def test_serious_findings_stand_on_top_with_a_link_that_leads_somewhere(audit: tuple[str, Any]) -> None:
    tags = Tags(audit[0])
    assert "Read before trusting the numbers" in tags.text
    links = {value for name, value in tags.attributes if name == "href"}
    assert all(link[1:] in tags.ids for link in links if not link.startswith("data:"))


def test_ids_are_unique(audit: tuple[str, Any]) -> None:
    ids = Tags(audit[0]).ids
    assert len(ids) == len(set(ids))


def test_rerun_command_is_quoted_for_a_shell(audit: tuple[str, Any]) -> None:
    assert "assay audit --suite standard --data 'my images/' --out audit" in Tags(audit[0]).text


def test_notes_on_the_data_read_as_sentences(audit: tuple[str, Any]) -> None:
    assert "Grey levels 0 to 16 were divided by 16. 450 of 1797 samples were read." in Tags(audit[0]).text


def test_citations_are_owed_once_each(audit: tuple[str, Any]) -> None:
    text = Tags(audit[0]).text
    assert text.count("Croce, Francesco and Hein, Matthias (2020)") == 1
    assert "Used for: Robust accuracy; Auto-PGD on the cross-entropy." in text
    assert "@inproceedings{guo2017calibration" in text


def test_nothing_is_loaded_from_anywhere(audit: tuple[str, Any]) -> None:
    tags = Tags(audit[0])
    assert "script" not in tags.names
    assert "link" not in tags.names
    policy = next(value for name, value in tags.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    addresses = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href")]
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    runs, study, verdicts = make_study(tmp_path)
    first = write_report(tmp_path, runs, study=study, verdicts=verdicts).read_bytes()
    assert write_report(tmp_path, runs, study=study, verdicts=verdicts).read_bytes() == first


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "clean-accuracy", _hostile(), target=TARGET | {"name": HOSTILE}, data=_data())
    study = {
        "created": HOSTILE,
        "command": ["assay", HOSTILE],
        "not_tested": [HOSTILE],
        "status": "ok",
        "runs": [{"probe": HOSTILE, "id": "gone", "status": "failed", "error": HOSTILE}],
    }
    claim = Claim(text=HOSTILE, metric=HOSTILE, stratum=f"class={HOSTILE}", op=">=", threshold=0.5)
    verdicts = [Verdict(claim=claim, outcome="not_run", metric=None, run_id=HOSTILE, reason=HOSTILE)]
    page = write_report(tmp_path, [run], study=study, verdicts=verdicts).read_text(encoding="utf-8")
    tags = Tags(page)
    assert "script" not in tags.names
    assert not any(name.startswith("on") for name, _ in tags.attributes)
    assert "49" not in re.findall(r"<title>(.*?)</title>", page, re.DOTALL)[0]
    assert tags.text.count("<script>alert(1)</script>") >= 10
    assert {address for name, address in tags.attributes if name == "src" if not address.startswith("data:")} == set()


def test_hostile_drawings_stay_text(tmp_path: Path) -> None:
    run = write_run(tmp_path, "clean-accuracy", _hostile())
    write_report(tmp_path / "out", [run], study=None, verdicts=[])
    drawn = (run.path / "figures" / "hostile.svg").read_text(encoding="utf-8")
    assert "<script" not in drawn
    assert "&lt;script" in drawn


def test_a_metric_that_is_not_a_number_is_a_dash_and_sorts_last(tmp_path: Path) -> None:
    strata = [rate("clean_accuracy", 0, 0, stratum="class=empty"), rate("clean_accuracy", 3, 4, stratum="class=full")]
    run = write_run(tmp_path / "runs", "clean-accuracy", Measurement(metrics=[NAN_METRIC, *strata]))
    text = Tags(write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8")).text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert text.index("full") < text.index("empty")


def test_no_runs_is_a_page_that_says_so(tmp_path: Path) -> None:
    text = Tags(write_report(tmp_path, [], study=None, verdicts=[]).read_text(encoding="utf-8")).text
    assert "Incomplete" in text
    assert "Nothing was measured" in text


def test_runs_that_did_not_finish_say_why(tmp_path: Path) -> None:
    runs = [
        failed_run(tmp_path / "runs", "clean-accuracy", ValueError("cause: the moon")),
        failed_run(tmp_path / "runs", "calibration", Incomplete("stopped at 40 %")),
        write_run(tmp_path / "runs", "minimum-norm", Measurement(not_applicable="only one class")),
    ]
    text = Tags(write_report(tmp_path, runs, study=None, verdicts=[]).read_text(encoding="utf-8")).text
    for words in (
        "cause: the moon",
        "stopped at 40 %",
        "Not applicable: only one class",
        "2 of 3 runs did not finish.",
    ):
        assert words in " ".join(text.split())


def test_unicode_is_kept(tmp_path: Path) -> None:
    words = "数字 – Ελληνικά – עברית – 🐈"
    run = write_run(tmp_path / "runs", "clean-accuracy", accuracy((words, "b")), data=DATA | {"name": words})
    text = Tags(write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8")).text
    assert text.count(words) >= 3


def test_many_classes_are_folded(tmp_path: Path) -> None:
    classes = tuple(f"c{i:03}" for i in range(100))
    run = write_run(tmp_path / "runs", "clean-accuracy", accuracy(classes))
    assert "The other 92" in write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(RunError, match="output folder"):
        write_report(blocked / "out", [], study=None, verdicts=[])
    assert stat.S_ISREG(blocked.stat().st_mode)


@pytest.mark.parametrize(
    ("claims", "status", "expected"),
    [
        (["clean_accuracy >= 0.9"], "ok", "passed"),
        (["clean_accuracy >= 0.99"], "ok", "failed"),
        (["clean_accuracy >= 0.99", "unknown >= 1"], "incomplete", "failed"),
        (["clean_accuracy >= 0.9", "unknown >= 1"], "ok", "incomplete"),
        (["clean_accuracy >= 0.9"], "incomplete", "incomplete"),
        ([], "ok", "measured"),
    ],
)
def test_outcome(tmp_path: Path, claims: list[str], status: str, expected: str) -> None:
    runs = [write_run(tmp_path, "clean-accuracy", accuracy())]
    assert outcome(runs, {"status": status}, check(claims, runs)) == expected


def test_a_run_without_a_study_brings_its_own_command(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "clean-accuracy", accuracy())
    text = Tags(write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8")).text
    assert COMMAND[1] + " --suite standard" in text
    assert "digits-cnn on digits" in text


def _data() -> dict[str, Any]:
    return DATA | {"name": HOSTILE, "notes": [HOSTILE], HOSTILE: HOSTILE}


def _hostile() -> Measurement:
    original, changed = pictures(1, channels=3)
    caption = dict.fromkeys(("sample_id", "label", "before", "after", "norm"), HOSTILE)
    caption |= {"before_confidence": 0.5, "after_confidence": 0.5, "distance": 0.1}
    return Measurement(
        metrics=[
            rate("clean_accuracy", 3, 4),
            rate("clean_accuracy", 3, 4, stratum=f"class={HOSTILE}"),
            Metric(name=HOSTILE, estimand=HOSTILE, value=1.0, lo=0.5, hi=1.5, interval=HOSTILE, n=1, unit=HOSTILE),
        ],
        samples={"correct": np.ones(4, dtype=bool)},
        findings=[Finding(code="x", severity="serious", message=HOSTILE, remedy=HOSTILE)],
        figures=[
            Figure(
                name="hostile",
                title=HOSTILE,
                caption=HOSTILE,
                kind="bar",
                x_label=HOSTILE,
                y_label=HOSTILE,
                series=(Series(label=HOSTILE, x=(HOSTILE, "$x_$"), y=(1.0, 2.0)),),
            )
        ],
        gallery=Gallery(title=HOSTILE, caption=HOSTILE, original=original, changed=changed, captions=[caption]),
    )
