"""Perplexity under an oracle: the plain formula, what counts as a token, and the interval over texts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from assay.core.errors import DataError
from assay.subjects.language import LanguageModel
from assay.watermark.perplexity import perplexity

CHANCES = np.array([0.4, 0.3, 0.2, 0.1])


class Unigram(torch.nn.Module):
    """Expects the same tokens everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=4)
        self.logits = torch.nn.Parameter(torch.from_numpy(CHANCES).float().log())

    def forward(self, input_ids: torch.Tensor, **more: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, 4))


ORACLE = LanguageModel(Unigram(), name="unigram")


def value(ids: list[int]) -> float:
    return float(np.exp(-np.log(CHANCES[ids]).mean()))


def test_each_text_and_all_texts() -> None:
    texts = [[0, 1, 2], [3, 3, 3, 3, 3], [1, 0]]
    found = perplexity(ORACLE, texts)
    np.testing.assert_allclose(found.values, [value(text[1:]) for text in texts], rtol=1e-5)
    assert found.tokens.tolist() == [2, 4, 1]
    assert found.mean.value == pytest.approx(np.mean([value(text[1:]) for text in texts]), rel=1e-5)
    assert found.corpus.value == pytest.approx(value([token for text in texts for token in text[1:]]), rel=1e-5)
    assert found.mean.n == 3
    assert found.mean.lo < found.mean.value < found.mean.hi
    assert found.corpus.lo < found.corpus.value < found.corpus.hi


def test_prompts_are_read_and_not_scored() -> None:
    texts, prompts = [[0, 1, 2], [3]], [[3, 3, 3], [2]]
    found = perplexity(ORACLE, texts, prompts)
    np.testing.assert_allclose(found.values, [value(text) for text in texts], rtol=1e-5)
    assert found.tokens.tolist() == [3, 1]


def test_texts_without_a_token_to_score_do_not_count() -> None:
    found = perplexity(ORACLE, [[], [2], [0, 1]])
    assert found.tokens.tolist() == [0, 0, 1]
    assert np.isnan(found.values[:2]).all()
    assert found.mean.n == 1
    with pytest.raises(DataError, match="None of the 2 texts has a token to score"):
        perplexity(ORACLE, [[], [2]])
    assert perplexity(ORACLE, [[2]], [[1]]).tokens.tolist() == [1]


def test_numbers_that_do_not_match_and_ids_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="There are 1 prompts for 2 texts"):
        perplexity(ORACLE, [[0, 1], [1, 2]], [[0]])
    with pytest.raises(DataError, match="Id 4 at position 1 of text 0"):
        perplexity(ORACLE, [[0, 4]])


def test_the_interval_covers() -> None:
    generator = np.random.default_rng(0)
    truth = float(np.exp(-(CHANCES * np.log(CHANCES)).sum()))
    held = 0
    for _ in range(60):
        texts = generator.choice(4, (25, 30), p=CHANCES).tolist()
        found = perplexity(ORACLE, texts).corpus
        held += found.lo <= truth <= found.hi
    assert held >= 50
