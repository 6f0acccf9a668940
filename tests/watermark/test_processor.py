"""Generation through Hugging Face transformers, in both directions: marked here and detected there, and the reverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import ModelError, SettingError
from assay.watermark import Watermark
from assay.watermark import processor as processor_module
from assay.watermark.processor import Marker, Sampling

transformers = pytest.importorskip("transformers")

SIZE = 300
NEW = 40
KEY = 424242
KINDS = [("lefthash", 1), ("lefthash", 2), ("selfhash", 1), ("selfhash", 3)]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=SIZE, n_positions=96, n_embd=32, n_layer=1, n_head=2, bos_token_id=SIZE - 1, eos_token_id=None
    )
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def prompts() -> torch.Tensor:
    return torch.randint(0, SIZE - 2, (3, 6), generator=torch.Generator().manual_seed(5))


def generated(model: Any, ids: torch.Tensor, *, mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    torch.manual_seed(1)
    mask = torch.ones_like(ids) if mask is None else mask
    out = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, pad_token_id=SIZE - 2, **options)
    return out[:, ids.shape[1] :]


def config_of(kind: str, width: int) -> Any:
    return transformers.WatermarkingConfig(
        greenlist_ratio=0.3, bias=4.0, hashing_key=KEY, seeding_scheme=kind, context_width=width
    )


WAYS = [
    {"do_sample": False, "num_beams": 1},
    {"do_sample": False, "num_beams": 3},
    {"do_sample": True, "num_beams": 1},
]


@pytest.mark.parametrize("way", WAYS, ids=["greedy", "beams", "sampling"])
@pytest.mark.parametrize(("kind", "width"), KINDS)
def test_the_text_is_that_of_transformers_and_each_detects_the_other(
    model: Any, prompts: torch.Tensor, kind: str, width: int, way: dict[str, Any]
) -> None:
    config = config_of(kind, width)
    wm = Watermark.from_transformers(config, SIZE)
    if way["do_sample"]:  # transformers' own mark comes after these; without them the order does not matter
        way = way | {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
    theirs = generated(model, prompts, watermarking_config=config, **way)
    ours = generated(model, prompts, logits_processor=[wm.processor()], **way)
    assert torch.equal(ours, theirs)
    for ignore in (False, True):
        detector = transformers.WatermarkDetector(model.config, "cpu", config, ignore_repeated_ngrams=ignore)
        official = detector(ours, return_dict=True)
        for row in range(len(ours)):
            found = wm.detect(theirs[row], unique_ngrams=ignore, strict=False)
            assert found.scored == official.num_tokens_scored[row]
            assert found.green == official.num_green_tokens[row]
            assert found.z == pytest.approx(official.z_score[row])
            assert found.p_value_normal == pytest.approx(official.p_value[row])
        if not ignore:
            assert official.z_score.min() > 4


@pytest.mark.parametrize("way", WAYS, ids=["greedy", "beams", "sampling"])
@pytest.mark.parametrize("name", ["simple_1", "selfhash", "skipgram", "unigram", "philox"])
def test_every_scheme_marks_and_detects(model: Any, prompts: torch.Tensor, name: str, way: dict[str, Any]) -> None:
    wm = Watermark(name, vocab_size=SIZE, delta=8.0, key=KEY)
    text = generated(model, prompts, logits_processor=[wm.processor()], **way)
    found = wm.detect_many(text)
    # Without chance the little model repeats itself, and few n-grams count; what it writes is green all the same.
    assert np.mean(np.concatenate([one.mask for one in found])) > 0.8
    if way["do_sample"]:
        assert max(one.p_value for one in found) < 1e-5
    plain = generated(model, prompts, **way)
    assert max(one.z for one in wm.detect_many(plain)) < 4


@pytest.mark.parametrize("name", ["simple_1", "selfhash", "philox", "hf-selfhash", "gumbel"])
def test_padding_on_the_left_changes_nothing(model: Any, name: str) -> None:
    """Prompts shorter than the context are marked from the same token on, alone or beside longer ones."""
    wm = Watermark(name, vocab_size=SIZE, delta=8.0, key=KEY, context_width=None if name != "hf-selfhash" else 4)
    lengths, width, pad = (1, 3, 6), 6, SIZE - 2
    drawn = torch.randint(0, SIZE - 2, (3, width), generator=torch.Generator().manual_seed(6))
    ids, mask = torch.full((3, width), pad), torch.zeros(3, width, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = drawn[row, :length]
        mask[row, width - length :] = 1
    batch = generated(model, ids, mask=mask, do_sample=False, logits_processor=[wm.processor(pad_token_id=pad)])
    for row, length in enumerate(lengths):
        alone = generated(
            model, drawn[row : row + 1, :length], do_sample=False, logits_processor=[wm.processor(pad_token_id=pad)]
        )
        assert torch.equal(batch[row], alone[0])


def test_rows_whose_context_reaches_into_padding_stay_as_they_are() -> None:
    wm = Watermark("minhash", vocab_size=50)
    scores = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    pad = 9
    ids = torch.tensor(
        [
            [pad, pad, 1, 2, 3, 4],  # exactly enough
            [pad, pad, pad, 2, 3, 4],
            [1, 2, pad, pad, 3, 4],  # the same id inside a text is no padding
            [pad, 1, pad, 2, 3, 4],
            [pad, pad, pad, pad, pad, pad],
        ]
    )
    marked = wm.processor(pad_token_id=pad)(ids, scores)
    plain = wm.bias(ids, scores)
    for row, expected in enumerate([True, False, True, True, False]):
        assert torch.equal(marked[row], plain[row] if expected else scores[row])
    assert torch.equal(wm.processor()(ids, scores), plain)
    fixed = Watermark("unigram", vocab_size=50)
    assert torch.equal(fixed.processor(pad_token_id=pad)(ids, scores), fixed.bias(ids, scores))


def test_it_is_a_logits_processor_and_works_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    wm = Watermark("philox", vocab_size=50)
    made = wm.processor()
    assert isinstance(made, transformers.LogitsProcessor)
    assert repr(made) == "WatermarkProcessor('philox')"

    def missing() -> Any:
        raise ImportError

    monkeypatch.setattr(processor_module, "require_transformers", missing)
    processor_module._class.cache_clear()
    try:
        alone = wm.processor()
        assert type(alone) is Marker
        ids, scores = torch.arange(5)[None], torch.zeros(1, 50)
        assert torch.equal(alone(ids, scores), made(ids, scores))
    finally:
        processor_module._class.cache_clear()


@pytest.mark.parametrize("pad", ["0", 1.0, [0], True])
def test_padding_is_one_id(pad: Any) -> None:
    with pytest.raises(SettingError, match="pad_token_id"):
        Watermark("philox", vocab_size=50).processor(pad_token_id=pad)


def test_a_model_with_another_vocabulary_is_refused(model: Any, prompts: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=f"{SIZE} scores.*{SIZE - 7}"):
        generated(model, prompts, logits_processor=[Watermark("simple_1", vocab_size=SIZE - 7).processor()])


def test_gumbel_draws_from_the_filtered_distribution(model: Any, prompts: torch.Tensor) -> None:
    wm = Watermark("gumbel", vocab_size=SIZE, key=KEY)
    text = generated(model, prompts, do_sample=False, logits_processor=[wm.processor(temperature=1.5)])
    assert min(-found.log10_p for found in wm.detect_many(text)) > 5
    scores = torch.randn(200, SIZE, generator=torch.Generator().manual_seed(3))
    ids = torch.randint(0, SIZE, (200, 6), generator=torch.Generator().manual_seed(4))
    drawn = wm.processor(top_k=5)(ids, scores).argmax(dim=1)
    assert bool((scores.topk(5, dim=1).indices == drawn[:, None]).any(dim=1).all())
    greedy = wm.processor(top_p=1e-6)(ids, scores).argmax(dim=1)
    assert torch.equal(greedy, scores.argmax(dim=1))
    half = wm.processor(temperature=0.7)(ids, scores.bfloat16())
    assert half.dtype == torch.bfloat16
    assert bool((half.isfinite().sum(dim=1) == 1).all())
    with pytest.raises(SettingError, match="only 'gumbel'"):
        Watermark("philox", vocab_size=SIZE).processor(top_k=5)
    with pytest.raises(SettingError, match="temperature"):
        wm.processor(temperature=0.0)


@given(
    st.sampled_from([0.5, 1.0, 1.7]),
    st.integers(0, 12),
    st.sampled_from([1.0, 0.9, 0.5, 0.05]),
    st.integers(0, 2**32),
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60)
def test_the_filters_are_those_of_transformers(
    temperature: float, top_k: int, top_p: float, seed: int, dtype: torch.dtype
) -> None:
    scores = 2 * torch.randn(3, 11, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    expected = transformers.TemperatureLogitsWarper(temperature)(None, scores)
    if top_k:
        expected = transformers.TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = transformers.TopPLogitsWarper(top_p)(None, expected)
    found = Sampling(temperature=temperature, top_k=top_k, top_p=top_p).filtered(scores)
    assert torch.equal(found, expected)
