"""The recipe for language models: what it minimises, what it writes, and that it goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.errors import DataError, Incomplete, MissingExtra, ModelError, SettingError
from assay.core.runs import Run
from assay.data import load_data
from assay.data.texts import Corpus, TokenDataset
from assay.subjects import load_target
from assay.subjects.language import load_language_model
from assay.training import CausalLM, TrainSettings, forecast, train
from assay.training.language.losses import window_losses
from assay.training.language.tokens import tokenized
from assay.training.language.vocabulary import END, encode_all, learn_vocabulary

transformers = pytest.importorskip("transformers")

RECIPE = CausalLM(vocab_size=300, context=16, width=16, layers=1, heads=2)
FAST = TrainSettings(epochs=2, batch_size=8, optimizer="adamw", learning_rate=0.01, warmup_epochs=0.2)
WORDS = re.findall(r"\w+", "the name of a file is read from its path and every line of it holds one value or none")


def corpus(first: int, count: int) -> Corpus:
    rng = np.random.default_rng(first)
    texts = tuple(" ".join(rng.choice(WORDS, 60)) for _ in range(count))
    return Corpus(name="words", source="words", split="train", texts=texts, names=tuple(map(str, range(count))))


@pytest.fixture(scope="module")
def tokens() -> tuple[TokenDataset, TokenDataset]:
    """Windows to train on, and windows of other documents."""
    data, held_out = tokenized(RECIPE, corpus(0, 10), corpus(1, 4))
    assert held_out is not None
    return data, held_out


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tokens: tuple[TokenDataset, TokenDataset]) -> Run:
    """A finished training."""
    out = tmp_path_factory.mktemp("lm") / "run"
    return train(RECIPE, data=tokens[0], validation=tokens[1], settings=FAST, out=out)


def test_the_loss_of_a_window_is_the_mean_over_its_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, ids = torch.randn(3, 5, 7, generator=generator), torch.randint(0, 7, (3, 5), generator=generator)
    expected = [-sum(logits[b, t].log_softmax(0)[ids[b, t + 1]].item() for t in range(4)) / 4 for b in range(3)]
    np.testing.assert_allclose(window_losses(logits, ids), expected, rtol=1e-5)


def test_what_is_measured_is_what_the_saved_model_says(done: Run, tokens: tuple[TokenDataset, TokenDataset]) -> None:
    lm = load_language_model(f"run:{done.path}")
    losses = [float(values.mean()) for values in lm.losses(tokens[1].images().tolist())]
    metrics = {metric.name: metric for metric in done.metrics}
    assert metrics["validation_loss"].value == pytest.approx(np.mean(losses), rel=1e-4)
    assert metrics["validation_perplexity"].value == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    np.testing.assert_allclose(done.samples["loss"], losses, rtol=1e-3)
    assert metrics["validation_loss"].value < np.log(tokens[0].vocab_size) - 1


def test_transformers_loads_the_folder(done: Run, tokens: tuple[TokenDataset, TokenDataset]) -> None:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(done.path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert type(model).__name__ == "GPT2LMHeadModel"
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.path)
    text = "the  name,\n™ of <|endoftext|>"
    assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == (END, 0, 0)
    assert len(tokenizer) == tokens[0].vocab_size == model.config.vocab_size
    assert load_language_model(f"hf:{done.path}").digest == load_language_model(str(done.path)).digest
    record = json.loads((done.path / "run.json").read_text())
    assert record["target"]["architecture"] == "GPT2LMHeadModel"
    assert record["data"]["vocab_size"] == tokens[0].vocab_size


def test_a_stopped_training_goes_on_to_the_same_bytes(
    done: Run, tokens: tuple[TokenDataset, TokenDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.training.interrupts import Interrupts

    calls = iter([False] * 3 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(Interrupts, "requested", lambda self, accelerator: next(calls, True))
        with pytest.raises(Incomplete, match="Stopped after step"):
            train(RECIPE, data=tokens[0], validation=tokens[1], settings=FAST, out=tmp_path / "run")
    train(RECIPE, data=tokens[0], validation=tokens[1], settings=FAST, out=tmp_path / "run")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "model.json"):
        assert (tmp_path / "run" / name).read_bytes() == (done.path / name).read_bytes(), name


def test_averages_and_bf16_pass_through(tokens: tuple[TokenDataset, TokenDataset], tmp_path: Path) -> None:
    settings = TrainSettings(epochs=1, batch_size=16, optimizer="adamw", ema=0.9, precision="bf16", select="loss")
    run = train(RECIPE, data=tokens[0], validation=tokens[1], settings=settings, out=tmp_path / "run")
    assert load_language_model(str(run.path)).context == 16


def test_the_cost_is_known_before(tokens: tuple[TokenDataset, TokenDataset]) -> None:
    data, held_out = tokens
    ahead = forecast(RECIPE, data=data, validation=held_out, settings=FAST)
    assert ahead.steps == 2 * -(-len(data) // 8)
    assert ahead.backward == pytest.approx(2 * len(data), abs=2)


def test_a_vocabulary_is_the_same_in_every_process() -> None:
    texts = corpus(5, 20).texts
    code = (
        "import sys, json; from assay.training.language.vocabulary import learn_vocabulary; "
        "print(learn_vocabulary(json.load(sys.stdin), 350).to_str())"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "TOKENIZERS_PARALLELISM": wanted, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for wanted, seed in (("true", "1"), ("false", "2"))
    ]
    assert made == [learn_vocabulary(texts, 350).to_str()] * 2


def test_every_text_can_be_written_and_ids_stay_below_the_size() -> None:
    vocabulary = learn_vocabulary(corpus(0, 3).texts, 280)
    assert vocabulary.get_vocab_size() == 280
    text = "".join(map(chr, range(1, 0x250))) + "漢字\U0001f600"
    (ids,) = encode_all(vocabulary, [text])
    assert vocabulary.decode(ids) == text
    assert max(ids) < 280
    assert learn_vocabulary(["ab"], 5000).get_vocab_size() < 300, "no more pairs than there are"


def test_the_vocabulary_is_learned_from_training_texts_alone() -> None:
    alone, _ = tokenized(RECIPE, corpus(0, 10))
    beside, _ = tokenized(RECIPE, corpus(0, 10), corpus(9, 10))
    assert alone.digest == beside.digest


@pytest.mark.parametrize(
    ("network", "changes", "kind", "message"),
    [
        ("resnet", {}, ModelError, "The network is 'resnet'"),
        (None, {"watch": 5}, SettingError, "makes a language model"),
        (None, {"augment": "crop-flip"}, SettingError, "which is for images"),
        (None, {"select": "accuracy"}, SettingError, "allowed: last, loss"),
    ],
)
def test_what_has_no_meaning_for_texts(
    tokens: tuple[TokenDataset, TokenDataset],
    tmp_path: Path,
    network: str | None,
    changes: dict[str, object],
    kind: type[Exception],
    message: str,
) -> None:
    settings = TrainSettings(epochs=1, **changes)  # type: ignore[arg-type]
    with pytest.raises(kind, match=message):
        train(RECIPE, data=tokens[0], validation=tokens[1], network=network, settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_are_not_tokens_and_tokens_are_not_images(
    tokens: tuple[TokenDataset, TokenDataset], tmp_path: Path, done: Run
) -> None:
    with pytest.raises(DataError, match="learns from texts, and the data 'digits' hold images"):
        train(RECIPE, data=load_data("digits", limit=10), out=tmp_path / "run")
    with pytest.raises(DataError, match="learns from images, and the data 'words' hold texts"):
        train("standard", data=tokens[0], out=tmp_path / "run")
    with pytest.raises(ModelError, match="holds a language model"):
        load_target(f"run:{done.path}")


def test_tokens_share_one_vocabulary(tokens: tuple[TokenDataset, TokenDataset], tmp_path: Path) -> None:
    other, _ = tokenized(RECIPE, corpus(7, 2))
    for data, validation in ((tokens[0], other), (replace(tokens[0], vocabulary=""), None)):
        with pytest.raises(DataError, match="Make them together"):
            train(RECIPE, data=data, validation=validation, settings=FAST, out=tmp_path / "run")


def test_heads_divide_the_width() -> None:
    with pytest.raises(SettingError, match="heads that divide the width"):
        CausalLM(width=100, heads=3)


def test_without_transformers_the_extra_is_named(
    tokens: tuple[TokenDataset, TokenDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtra, match=r"assay-ml\[hf\]"):
            train(RECIPE, data=tokens[0], out=tmp_path / "run")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"assay-ml\[hf\]"):
        tokenized(RECIPE, corpus(0, 2))
