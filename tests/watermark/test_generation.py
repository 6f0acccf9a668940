"""Generation: a prompt's text depends on nothing but the prompt, the settings and its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from assay.core.errors import DataError, ModelError, SettingError
from assay.core.progress import Progress
from assay.subjects.language import LanguageModel
from assay.tensors.random import bits, sample_seeds
from assay.watermark import Watermark
from assay.watermark.generation import generate, gumbel

transformers = pytest.importorskip("transformers")
V = 97
WAYS = [
    {},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.9},
    {"decoding": "greedy"},
    {"decoding": "beam", "beams": 3},
]


def tiny(kind: str = "gpt2", scale: float = 0.3) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "llama":
            config = transformers.LlamaConfig(
                vocab_size=V,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=64,
                initializer_range=scale,
                bos_token_id=1,
                eos_token_id=0,
                pad_token_id=0,
            )
            return LanguageModel(transformers.LlamaForCausalLM(config))
        config = transformers.GPT2Config(
            vocab_size=V,
            n_positions=64,
            n_embd=32,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=scale,
        )
        return LanguageModel(transformers.GPT2LMHeadModel(config))


LM = tiny()
PROMPTS = [
    torch.randint(0, V, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (1, 5, 9, 3, 12, 7)
]
PROMPTS.append(PROMPTS[3])


def naive(lm: LanguageModel, prompt: list[int], steps: int, noise: list[torch.Tensor] | None = None) -> list[int]:
    """Token after token without cache, padding or transformers' own loop."""
    text = list(prompt)
    for step in range(steps):
        with torch.no_grad():
            scores = lm.model(input_ids=torch.tensor([text])).logits[0, -1]
        scores[list(lm.stops)] = -torch.inf
        text.append(int((scores if noise is None else scores + noise[step]).argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_a_text_does_not_depend_on_its_batch(kind: str, how: dict[str, object]) -> None:
    lm = tiny(kind)
    wm = Watermark("simple_1", vocab_size=V, key=7)
    for mark in (None, wm):
        alone = generate(lm, PROMPTS, mark, new_tokens=8, batch_size=1, **how)
        together = generate(lm, PROMPTS, mark, new_tokens=8, batch_size=7, **how)
        assert alone == together
        assert all(len(text) == 8 for text in alone)
        turned = generate(lm, PROMPTS[:3][::-1], mark, new_tokens=8, batch_size=2, **how)
        assert turned == alone[:3][::-1]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_greedy_text_is_that_of_the_plain_loop(kind: str) -> None:
    lm = tiny(kind)
    found = generate(lm, PROMPTS, new_tokens=6, decoding="greedy")
    assert found == [naive(lm, prompt, 6) for prompt in PROMPTS]


def test_draws_are_those_of_the_named_noise() -> None:
    from assay.core.seeds import seed

    found = generate(LM, PROMPTS[:2], new_tokens=6, names=["a", "b"], seed=5)
    for prompt, name, text in zip(PROMPTS, "ab", found, strict=False):
        seeds = torch.tensor([seed(5, "generate", name)])
        assert text == naive(LM, prompt, 6, [gumbel(bits(seeds, V, step))[0] for step in range(6)])


def test_seeds_names_and_repeated_prompts_make_other_texts() -> None:
    found = generate(LM, PROMPTS, new_tokens=12)
    assert found[3] != found[6], "the second time a prompt is given it has another text"
    assert generate(LM, PROMPTS, new_tokens=12) == found
    assert generate(LM, PROMPTS[:1], new_tokens=12, seed=1)[0] != found[0]
    assert generate(LM, PROMPTS[:1], new_tokens=12, names=["other"])[0] != found[0]
    assert generate(LM, PROMPTS[1:2], new_tokens=20)[0][:12] == found[1], "a longer text begins with the shorter"


def test_drawn_tokens_have_the_distribution_of_the_model() -> None:
    prompt, count = PROMPTS[1], 3000
    found = generate(LM, [prompt] * count, new_tokens=1, batch_size=1000, temperature=2.0, top_k=5)
    counts = Counter(text[0] for text in found)
    with torch.no_grad():
        logits = LM.model(input_ids=torch.tensor([prompt])).logits[0, -1] / 2
    logits[0] = -torch.inf
    kept = logits.topk(5)
    expected = count * kept.values.softmax(0).double().numpy()
    seen = np.array([counts[int(token)] for token in kept.indices])
    assert seen.sum() == count
    assert ((seen - expected) ** 2 / expected).sum() < 23.5, "chi-square on 4 degrees of freedom, p = 1e-4"


def test_gumbel_numbers_are_gumbel() -> None:
    noise = gumbel(bits(sample_seeds(0, range(50), "test"), 4000)).double().flatten().sort().values
    places = (torch.arange(len(noise)) + 0.5) / len(noise)
    assert (torch.exp(-torch.exp(-noise)) - places).abs().max() < 1.95 / len(noise) ** 0.5
    edges = gumbel(torch.tensor([[0, -1, 2**63 - 1, -(2**63)]]))
    assert edges.isfinite().all()
    assert edges[0, 0] > 27
    assert edges[0, 1] < -2.7


@pytest.mark.parametrize(
    "scheme", ["philox", "gumbel", "simple_1", "selfhash", "unigram", "hf-lefthash", "hf-selfhash"]
)
@pytest.mark.parametrize("how", WAYS[:2], ids=str)
def test_every_scheme_is_detected(scheme: str, how: dict[str, object]) -> None:
    wm = Watermark(scheme, vocab_size=V, gamma=0.5, delta=4.0, key=12345)
    marked = generate(LM, PROMPTS[:4], wm, new_tokens=40, **how)
    assert marked == generate(LM, PROMPTS[:4], wm, new_tokens=40, batch_size=1, **how)
    plain = generate(LM, PROMPTS[:4], new_tokens=40, **how)
    assert np.mean([wm.detect(text).z for text in marked]) > 2.5 + np.mean([wm.detect(text).z for text in plain])


def test_the_mark_comes_before_the_warpers() -> None:
    """A green token outside the top k of the model gets into it by its bias."""
    wm = Watermark("unigram", vocab_size=V, gamma=0.5, delta=30.0, key=3)
    green = set(wm.green_ids([]).tolist())
    marked = generate(LM, PROMPTS, wm, new_tokens=10, top_k=1)
    assert all(token in green for text in marked for token in text)


def test_a_text_without_enough_context_is_still_drawn() -> None:
    wm = Watermark("gumbel", vocab_size=V, key=3, context_width=6)
    first, second = generate(LM, [[5], [5]], wm, new_tokens=5)
    assert first != second


def test_texts_end_where_asked_and_nowhere_else() -> None:
    plain = generate(LM, PROMPTS, new_tokens=30)
    assert all(0 not in text and len(text) == 30 for text in plain), "the model's own end is never generated"
    stop = plain[0][4]
    ended = generate(LM, PROMPTS, new_tokens=30, stop=stop)
    assert all(stop not in text for text in ended)
    assert len(ended[0]) <= 4
    assert ended == generate(LM, PROMPTS, new_tokens=30, stop=stop, batch_size=2)


def test_the_models_own_generation_settings_have_no_say() -> None:
    lm = tiny()
    expected = generate(lm, PROMPTS[:2], new_tokens=10)
    own = transformers.GenerationConfig(
        repetition_penalty=3.0, eos_token_id=5, top_k=2, temperature=0.3, do_sample=True
    )
    lm.model.generation_config = own
    assert generate(lm, PROMPTS[:2], new_tokens=10) == expected
    assert lm.model.generation_config is own


def test_nothing_of_the_callers_random_state_is_used() -> None:
    state = torch.random.get_rng_state()
    generate(LM, PROMPTS[:2], new_tokens=3)
    assert torch.equal(state, torch.random.get_rng_state())


class _Counting(Progress):
    def __init__(self) -> None:
        super().__init__(enabled=False)
        self.tasks: list[object] = []

    def task(self, description: str, total: int | None = None) -> object:  # type: ignore[override]
        self.tasks.append(super().task(description, total))
        return self.tasks[-1]


@pytest.mark.parametrize("more", [{}, {"decoding": "beam", "beams": 2}, {"stop": 4}], ids=str)
def test_progress_counts_tokens(more: dict[str, object]) -> None:
    progress = _Counting()
    generate(LM, PROMPTS, new_tokens=6, batch_size=3, progress=progress, **more)
    (task,) = progress.tasks
    assert task.completed == task.total == 6 * len(PROMPTS)  # type: ignore[attr-defined]


def test_no_prompts_make_no_texts() -> None:
    assert generate(LM, []) == []


def bad() -> Iterator[tuple[dict[str, object], type[Exception], str]]:
    yield {"prompts": [[]]}, DataError, "Prompt 0 is empty"
    yield {"prompts": [[1], [V]]}, DataError, f"Id {V} at position 0 of prompt 1"
    yield {"prompts": [[1] * 60]}, DataError, "has 60 ids, and 8 new tokens make 68, .* has 64 positions"
    yield {"names": ["one"]}, SettingError, "names has 1 entries for 7 prompts"
    yield {"decoding": "beams"}, SettingError, "Did you mean 'beam'"
    yield {"decoding": "greedy", "top_k": 3}, SettingError, "Leave them out"
    yield {"temperature": 0}, SettingError, "allowed: above 0"
    yield {"new_tokens": 0}, SettingError, "at least 1"
    yield (
        {"watermark": Watermark("gumbel", vocab_size=V), "decoding": "beam"},
        SettingError,
        "chooses every token itself",
    )
    yield {"watermark": Watermark(vocab_size=V - 7)}, ModelError, str(V - 7)


@pytest.mark.parametrize(("how", "kind", "message"), list(bad()), ids=lambda value: str(value)[:30])
def test_what_cannot_be_done_is_said(how: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        generate(LM, **{"prompts": PROMPTS, "new_tokens": 8, **how})  # type: ignore[arg-type]
