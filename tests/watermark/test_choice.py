"""Detection with the model at hand: tokens count by the choice it had."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.core.errors import DataError, SettingError
from assay.watermark import Watermark
from assay.watermark.choice import by_choice
from assay.watermark.judging import judge
from assay.watermark.marks import NamedMark
from assay.watermark.theory import spike_entropy

V = 40


class Model:
    """After an even id every token is equally likely; after an odd one only the next id is."""

    def next_probabilities(self, ids: list[int]) -> torch.Tensor:
        rows = torch.full((len(ids) - 1, V), 1 / V)
        for place, token in enumerate(ids[:-1]):
            if token % 2:
                rows[place] = torch.eye(V)[(token + 1) % V]
        return rows


def written(mark: Watermark, tokens: int, seed: int) -> np.ndarray:
    """What the model writes with a strong mark: only where it has a choice does the mark matter."""
    rng = np.random.default_rng(seed)
    ids = [0, 2]
    while len(ids) < tokens:
        free = ids[-1] % 2 == 0
        ids.append(int(rng.choice(mark.green_ids(ids))) if free else (ids[-1] + 1) % V)
    return np.array(ids)


def test_weights_are_spike_entropies_above_that_of_a_certain_token() -> None:
    mark = Watermark("philox", vocab_size=V, gamma=0.25, delta=2.0, key=9, context_width=1)
    (weights,) = by_choice(Model(), mark.settings, [np.array([0, 4, 5, 6])])["weights"]  # type: ignore[arg-type]
    spread = float(spike_entropy(np.full(V, 1 / V), gamma=0.25, delta=2.0))
    certain = float(spike_entropy(np.eye(V)[0], gamma=0.25, delta=2.0))
    assert weights == pytest.approx([0, spread - certain, spread - certain, 0], abs=1e-6)


def test_a_threshold_asks_for_entropies_in_nats() -> None:
    mark = Watermark("philox", vocab_size=V, key=9, context_width=1, entropy_threshold=1.0)
    found = by_choice(Model(), mark.settings, [np.array([0, 4, 5, 6]), np.array([3])])  # type: ignore[arg-type]
    first, second = found["entropies"]
    assert np.isnan(first[0])
    assert first[1:] == pytest.approx([np.log(V), np.log(V), 0], abs=1e-5)
    assert len(second) == 1


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_a_model_makes_marks_in_predictable_text_plainer(threshold: float | None) -> None:
    mark = Watermark("simple_1", vocab_size=V, gamma=0.5, key=77, entropy_threshold=threshold)
    named = [NamedMark("one", mark)]
    texts = [{"one": written(mark, 60, seed)} for seed in range(12)]
    plain = [row[0].log10_p for row in judge(named, texts, fpr=1e-3)]
    weighed = [row[0].log10_p for row in judge(named, texts, fpr=1e-3, lm=Model())]  # type: ignore[arg-type]
    assert np.mean(weighed) < np.mean(plain)


def test_unmarked_text_is_not_called_marked_more_often_with_a_model() -> None:
    rng = np.random.default_rng(0)
    texts = [{"one": rng.integers(0, V, 80)} for _ in range(400)]
    logs = []
    for key in range(1, 6):
        named = [NamedMark("one", Watermark("philox", vocab_size=V, key=key, context_width=2))]
        logs += [row[0].log10_p for row in judge(named, texts, fpr=1e-3, lm=Model())]  # type: ignore[arg-type]
    assert np.mean(np.array(logs) <= -1) < 0.1 + 4 * np.sqrt(0.09 / len(logs))


def test_payloads_are_read_without_a_model() -> None:
    named = [NamedMark("one", Watermark("philox", vocab_size=V, key=3, payload_bits=2))]
    with pytest.raises(SettingError, match="leave out the model"):
        judge(named, [{"one": np.arange(20)}], fpr=0.1, payload=True, lm=Model())  # type: ignore[arg-type]


def test_ids_of_another_vocabulary_are_refused_by_a_real_model(tmp_path: object) -> None:
    transformers = pytest.importorskip("transformers")
    from assay.subjects.language import LanguageModel

    shape = transformers.GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=1, n_positions=32)
    lm = LanguageModel(transformers.GPT2LMHeadModel(shape), None, name="tiny")
    mark = Watermark("philox", vocab_size=V, key=3)
    assert by_choice(lm, mark.settings, [np.arange(30)])["weights"][0].shape == (30,)
    with pytest.raises(DataError, match="outside the vocabulary"):
        by_choice(lm, mark.settings, [np.array([1, V])])
