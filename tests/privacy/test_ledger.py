"""The ledger composes what it holds; its file never holds less than was begun."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import RunError, SettingError, Unsupported
from assay.privacy import Event, Ledger, LedgerFile, epsilon

A, B = Event(1.0, 0.01), Event(2.0, 0.05)
EVENTS = st.sampled_from([A, B, Event(0.7, 1.0, steps=3)])


def test_one_event_costs_what_epsilon_says() -> None:
    ledger = Ledger()
    ledger.charge(A, steps=300)
    ledger.charge(A)
    for accountant in ("rdp", "gdp"):
        expected = epsilon(noise_multiplier=1.0, sample_rate=0.01, steps=301, delta=1e-5, accountant=accountant)
        assert ledger.epsilon(1e-5, accountant) == expected
    assert Ledger().epsilon(1e-5) == 0.0


@settings(max_examples=10)
@given(charges=st.lists(st.tuples(EVENTS, st.integers(0, 50)), min_size=1, max_size=6), data=st.data())
def test_order_does_not_matter_and_spending_only_grows(charges: list, data: st.DataObject) -> None:
    ledger, other = Ledger(), Ledger()
    spent = 0.0
    for event, steps in charges:
        ledger.charge(event, steps)
        assert ledger.epsilon(1e-5) >= spent
        spent = ledger.epsilon(1e-5)
    for event, steps in data.draw(st.permutations(charges)):
        other.charge(event, steps)
    assert other == ledger
    assert other.epsilon(1e-5) == pytest.approx(spent, rel=1e-12)
    assert ledger.steps == sum(event.steps * steps for event, steps in charges)
    assert Ledger.from_dict(json.loads(json.dumps(ledger.as_dict()))) == ledger


def test_two_kinds_of_steps_lie_between_their_parts() -> None:
    mixed = Ledger()
    mixed.charge(A, 200)
    mixed.charge(B, 100)
    for accountant in ("rdp", "prv", "gdp"):
        parts = [
            epsilon(
                noise_multiplier=e.noise_multiplier, sample_rate=e.sample_rate, steps=n, delta=d, accountant=accountant
            )
            for e, n, d in ((A, 200, 1e-5), (B, 100, 1e-5), (A, 200, 5e-6), (B, 100, 5e-6))
        ]
        assert max(parts[:2]) <= mixed.epsilon(1e-5, accountant) <= parts[2] + parts[3]


def test_no_epsilon_for_other_sampling_or_without_noise() -> None:
    ledger = Ledger()
    ledger.charge(A, 10)
    ledger.charge(Event(1.0, 0.01, sampling="shuffled", steps=4))
    with pytest.raises(Unsupported, match=r"4 steps took shuffled batches.*Train with sampling='poisson'"):
        ledger.epsilon(1e-5)
    silent = Ledger()
    silent.charge(Event(0.0, 0.01))
    assert silent.epsilon(1e-5) == math.inf


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Event(-1.0, 0.1), "noise_multiplier is -1"),
        (lambda: Event(1.0, 0.0), "sample_rate is 0.0"),
        (lambda: Event(1.0, 0.1, sampling="poison"), "Did you mean 'poisson'"),
        (lambda: Event(1.0, 0.1, steps=0.5), "whole number"),
        (lambda: Event(1.0, 0.1, mechanism="laplace"), "mechanism is 'laplace'; allowed: gaussian"),
        (lambda: Ledger().charge(A, -1), "cannot be taken back"),
    ],
)
def test_events_that_cannot_be_are_named(make, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        make()


@pytest.mark.parametrize("record", [{}, {"schema": 9, "events": []}, {"schema": 1, "events": [{"sigma": 1}]}])
def test_damaged_records_are_named(record: dict) -> None:
    with pytest.raises(RunError, match="ledger"):
        Ledger.from_dict(record)


@settings(max_examples=50)
@given(
    lives=st.lists(
        st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 6), st.booleans()), max_size=8), max_size=4
    )
)
def test_the_file_against_a_list(lives: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Several lives of a process, repeated steps among them."""
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    again, expected = set(), Ledger()
    for life in lives:
        with LedgerFile(path, stream="seed 0") as file:
            for event, step, fresh in life:
                file.charge(event, step=step, fresh=fresh)
                if fresh or (event, step) not in again:
                    expected.charge(event)
                if not fresh:
                    again.add((event, step))
                assert file.spent() == expected
    assert LedgerFile(path).spent() == expected


def test_the_same_step_with_another_seed_is_another_release(tmp_path: Path) -> None:
    for stream in ("seed 0", "seed 1", "seed 0"):
        with LedgerFile(tmp_path / "ledger", stream=stream) as file:
            file.charge(A, step=4, fresh=False)
    assert LedgerFile(tmp_path / "ledger").spent().steps == 2


def test_each_cut_of_the_file_spends_what_was_begun(tmp_path: Path) -> None:
    """Whatever prefix the disk kept: every whole line counts, a cut one counts as a step, the next life goes on."""
    path = tmp_path / "ledger"
    with LedgerFile(path) as file:
        for event, step in ((A, 0), (A, 1), (B, 2), (B, 10), (A, 11)):
            file.charge(event, step=step, fresh=False)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        ticks = whole[:length].count(b" again")
        torn = b"}" in whole[:length] and not whole[:length].endswith((b"\n", b" again", b"}"))
        spent = LedgerFile(path).spent().steps
        assert spent == ticks + torn
        with LedgerFile(path) as file:
            file.charge(B, step=12, fresh=False)
        assert file.spent().steps == spent + 1


def test_steps_without_their_event_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with LedgerFile(path) as file:
        file.charge(A, step=0, fresh=False)
        file.charge(B, step=1, fresh=False)
    lines = path.read_bytes().split(b"\n")
    for place in (1, 3):  # the two lines that state an event
        damaged = list(lines)
        damaged[place] = damaged[place][:20]
        path.write_bytes(b"\n".join(damaged))
        with pytest.raises(RunError, match="is damaged: it lists steps without saying what they were"):
            LedgerFile(path).spent()


def test_a_full_disk_is_an_error_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger"
    file = LedgerFile(path)
    file.charge(A, step=0, fresh=False)
    real, calls = os.write, []

    def half(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(RunError, match="No space left"):
            file.charge(A, step=1, fresh=False)
    file.charge(A, step=2, fresh=False)
    file.close()
    assert 2 <= file.spent().steps <= 3  # what was cut short may count, what was charged does


def test_charges_that_cannot_be_are_named(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "ledger")
    with pytest.raises(SettingError, match="step by step"):
        file.charge(Event(1.0, 0.1, steps=2), step=0)
    with pytest.raises(SettingError, match="needs its number"):
        file.charge(A, fresh=False)
    with pytest.raises(SettingError, match="step is -1"):
        file.charge(A, step=-1)
    assert not file.path.exists()
    assert file.spent().steps == 0
    with pytest.raises(RunError, match="Cannot write"):
        LedgerFile(tmp_path / "absent" / "ledger").charge(A)


WRITER = """
import sys
from assay.privacy.ledger import Event, LedgerFile
file, begun = LedgerFile(sys.argv[1]), open(sys.argv[2], "ab", buffering=0)
event = Event(1.0, 0.01)
print("ready", flush=True)
step = 0
while True:
    file.charge(event, step=step, fresh=True)
    begun.write(b".")  # the step is computed: what was charged before it must be on disk already
    step += 1
"""


def test_kill_minus_nine_never_forgets_a_step(tmp_path: Path) -> None:
    path, begun = tmp_path / "ledger", tmp_path / "begun"
    pauses = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(begun)], stdout=subprocess.PIPE, env={**os.environ}
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(pauses.uniform(0.001, 0.05))
        finally:
            process.kill()
            process.communicate()
        computed = begun.stat().st_size if begun.exists() else 0
        spent = LedgerFile(path).spent().steps
        assert computed <= spent <= computed + 3  # at most the one step a life that was charged and not computed
    assert computed > 0
