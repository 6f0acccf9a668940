"""The privacy statement says what holds, and never an epsilon that does not."""

from __future__ import annotations

import math
import re

import pytest

from assay.core.errors import SettingError
from assay.privacy import Event, Ledger, delta_remark, statement


def ledger_of(*events: Event) -> Ledger:
    ledger = Ledger()
    for event in events:
        ledger.charge(event)
    return ledger


def test_a_valid_training() -> None:
    ledger = ledger_of(Event(1.0, 0.01, steps=1_000))
    lines = statement(ledger, 1e-5, population=50_000, secure=True)
    text = " ".join(lines)
    rdp, prv = ledger.epsilon(1e-5, "rdp"), ledger.epsilon(1e-5, "prv")
    assert f"epsilon = {rdp:.3g} by the Rényi (RDP) accountant" in text
    assert f"epsilon = {prv:.3g} by the numerical (PRV) accountant" in text
    assert f"{math.exp(prv):.3g} times as likely" in text
    assert "adding or removing one record" in text
    assert "1,000 steps drew every record by a coin of its own (Poisson sampling), each with sample rate 0.01" in text
    assert "cryptographic generator" in text
    assert "seed" not in text
    assert "best of several" in text
    assert "counts" not in text
    assert all(line.endswith(".") for line in lines)


def test_the_chance_to_guess_is_the_known_bound() -> None:
    """(ε, δ): at most (e^ε + δ) / (1 + e^ε) of guesses from even odds are right; randomised response attains it."""
    text = " ".join(statement(ledger_of(Event(1.0, 0.1)), 1e-5, population=99, secure=True, spent={"rdp": math.log(3)}))
    assert "right at most 75.0 % of the time" in text
    assert "the numerical (PRV) accountant could not be computed" in text
    assert "3 times as likely" in text
    wide = " ".join(statement(ledger_of(Event(1.0, 0.1)), 1e-5, population=99, secure=True, spent={"rdp": 900.0}))
    assert "more than e^900 times as likely" in wide
    assert "right at most nearly 100 %" in wide


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Event(1.0, 0.01, sampling="shuffled", steps=7), "the batches of 7 steps were shuffled, not drawn by Poisson"),
        (Event(0.0, 0.01), "1 step added no noise"),
    ],
)
def test_no_epsilon_where_none_holds(event: Event, why: str) -> None:
    lines = statement(
        ledger_of(Event(1.0, 0.01), event), 1e-5, population=100, secure=False, spent={"rdp": 1.5, "prv": 1.25}
    )
    assert lines[0].startswith("Not valid: ")
    assert why in lines[0]
    assert not re.search(r"epsilon = |1\.5|1\.25|times as likely", " ".join(lines))


def test_seed_counts_and_delta_are_told() -> None:
    text = " ".join(
        statement(ledger_of(Event(1.0, 0.01)), 1e-2, population=1_000, secure=False, count_noise=10.0, spent={"rdp": 1})
    )
    assert "seed that stands in this record" in text
    assert "does not hold against readers of the record" in text
    assert "noise of standard deviation 10" in text
    assert "charged together, as one mechanism" in text
    assert "delta = 0.01 is above one over the number of training records" in text


def test_delta_remark() -> None:
    assert delta_remark(1e-3, 1_000) is None
    remark = delta_remark(2e-3, 1_000)
    assert remark is not None
    assert "1/1000 = 0.001" in remark
    assert "such as 1e-04" in remark


def test_what_cannot_be_stated_is_named() -> None:
    with pytest.raises(SettingError, match="delta is 2"):
        statement(Ledger(), 2, population=10, secure=True)
    with pytest.raises(SettingError, match="population is 0"):
        statement(Ledger(), 1e-5, population=0, secure=True)
    assert len(statement(Ledger(), 1e-5, population=10, secure=True)) == 1
