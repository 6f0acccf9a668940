"""Language models: losses against the plain formula, long texts, ids that do not fit, and where models come from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, MissingExtra, ModelError
from assay.subjects.language import LanguageModel, load_language_model
from assay.training.language.vocabulary import encode_all, learn_vocabulary, tokenizer_config

transformers = pytest.importorskip("transformers")


def tiny(vocab_size: int = 61, positions: int = 16, seed: int = 0) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=vocab_size,
            n_positions=positions,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.3,
        )
        return LanguageModel(transformers.GPT2LMHeadModel(config))


LM = tiny()


def plain_losses(lm: LanguageModel, text: list[int]) -> np.ndarray:
    """One token after the other, each with all before it that fits."""
    found = []
    for place in range(1, len(text)):
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([text[:place]])).logits[0, -1]
        found.append(-logits.log_softmax(0)[text[place]].item())
    return np.array(found)


@given(st.lists(st.lists(st.integers(0, 60), max_size=16), min_size=1, max_size=6), st.integers(1, 4))
@settings(max_examples=15)
def test_losses_are_those_of_the_formula_in_any_batch(texts: list[list[int]], batch_size: int) -> None:
    for text, losses in zip(texts, LM.losses(texts, batch_size=batch_size), strict=True):
        np.testing.assert_allclose(losses, plain_losses(LM, text), rtol=1e-4, atol=1e-4)


def test_a_long_text_is_read_in_windows_with_half_a_context_before_every_token() -> None:
    text = torch.randint(0, 61, (45,), generator=torch.Generator().manual_seed(0)).tolist()
    losses = LM.losses([text])[0]
    assert losses.shape == (44,)
    np.testing.assert_allclose(losses[:15], plain_losses(LM, text[:16]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(losses[15:23], plain_losses(LM, text[8:24])[7:], rtol=1e-4, atol=1e-4)
    chances = LM.next_probabilities(text)
    assert chances.shape == (44, 61)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(-chances[range(44), text[1:]].log().numpy(), losses, rtol=1e-3, atol=1e-4)


def test_memory_limits_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[1, 2, 3, 4]] * 7
    before = LM.losses(texts)
    seen = []
    answer = LanguageModel._logits
    monkeypatch.setattr("assay.subjects.language.CELLS", 61 * 4 * 3)
    monkeypatch.setattr(
        LanguageModel, "_logits", lambda self, ids, mask=None: seen.append(len(ids)) or answer(self, ids, mask)
    )
    for one, other in zip(before, LM.losses(texts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    assert seen == [3, 3, 1]


def test_ids_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(DataError, match=r"Id 61 at position 1 of text 0 is outside the vocabulary .* 0 to 60"):
        LM.losses([[1, 61]])
    with pytest.raises(DataError, match="Id -1 at position 0"):
        LM.next_probabilities([-1, 3])


def test_a_model_without_tokenizer_has_no_text() -> None:
    with pytest.raises(ModelError, match="has no tokenizer"):
        LM.encode("text")


def test_the_digest_is_that_of_weights_and_vocabulary() -> None:
    assert tiny().digest == LM.digest
    assert tiny(seed=1).digest != LM.digest
    assert LM.describe()["parameters"] == sum(value.numel() for value in LM.model.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of transformers on disk, with a tokenizer."""
    path = tmp_path_factory.mktemp("lm")
    vocabulary = learn_vocabulary(["the name of the file is the name of the path"] * 5, 300)
    lm = tiny(vocab_size=vocabulary.get_vocab_size() + 7)
    lm.model.save_pretrained(path)
    vocabulary.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(tokenizer_config(16), encoding="utf-8")
    return path


def test_a_folder_of_transformers(folder: Path) -> None:
    lm = load_language_model(f"hf:{folder}")
    assert (lm.source, lm.context, lm.stops) == (f"hf:{folder.name}", 16, (0,))
    assert lm.vocab_size == len(lm.tokenizer) + 7, "the width of the logits, not the size of the vocabulary"
    text = " the  path,\n of ™ names"
    ids = lm.encode(text)
    assert lm.decode(ids) == text
    assert lm.decode([*ids, 0]) == text
    assert ids == encode_all(learn_vocabulary(["the name of the file is the name of the path"] * 5, 300), [text])[0]
    assert lm.encode("") == []
    assert lm.encode("", prompt=True) == [0]
    assert load_language_model(str(folder)).digest == lm.digest
    assert load_language_model(lm) is lm


def test_weights_are_safetensors_or_nothing(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(tiny().model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_language_model(f"hf:{tmp_path}")


def test_models_that_are_not_there_or_something_else(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no folder has this name.* Did you mean 'hf'"):
        load_language_model("hff:there")
    with pytest.raises(ModelError, match="There is no folder"):
        load_language_model("hf:./nowhere")
    with pytest.raises(ModelError, match="holds no finished training"):
        load_language_model(f"run:{tmp_path}")
    (tmp_path / "model.json").write_text(json.dumps({"kind": "encoder"}))
    with pytest.raises(ModelError, match="holds no language model"):
        load_language_model(f"run:{tmp_path}")


def test_a_folder_without_tokenizer(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match=r"The tokenizer of 'hf:.*' cannot be loaded"):
        load_language_model(f"hf:{tmp_path}")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"assay-ml\[hf\]"):
        load_language_model(f"hf:{folder}")


def test_a_module_of_ones_own() -> None:
    class Uniform(torch.nn.Module):
        """Knows nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(vocab_size=5)
            self.scale = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: torch.Tensor, **more: object) -> SimpleNamespace:
            return SimpleNamespace(logits=self.scale * torch.ones(*input_ids.shape, 5))

    lm = LanguageModel(Uniform(), name="uniform")
    assert (lm.vocab_size, lm.context, lm.stops) == (5, None, ())
    np.testing.assert_allclose(lm.losses([[1, 2, 3]])[0], np.log(5), rtol=1e-6)
