"""Marking and detecting beside transformers' own watermark: its logits processor and its detector, in one run.

    python benchmarks/watermark.py [processor] [selfhash] [detection] [scan] [--threads 1 2] [--rounds 5]

Vocabulary 50272, gamma 0.25, delta 2. All ways take turns in one process, and every round has another key and
other ids, so that nothing is found in a cache: every context is cold. Processor time is compared, within a round; wall
time stands beside it, for it is what a second thread can save. Making a processor or a detector is not counted.

- ``processor``: lefthash (``simple_1`` by its official name), a call of the logits processor for a batch of rows;
  and its share of one step of a tiny GPT-2 (4 layers, width 256, random weights, 64 ids before it).
- ``selfhash``: the same for selfhash at context width 4.
- ``detection``: documents of 200 ids with word frequencies like those of text: the same ones for both, and twenty times
  as many for Assay, which looks the same pair of ids up once; then rates are compared. For philox, which transformers
  does not know, its rate for lefthash stands.
- ``scan``: documents of 1,000 ids, repeated n-grams sorted out on the way: a p-value for each document, and, as
  ``assay watermark scan`` does, windows of six sizes all over them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.watermark import Watermark, kernel
from assay.watermark.scanning import scan

VOCABULARY, GAMMA, DELTA, KEY = 50272, 0.25, 2.0, 15485863
CONTEXT, PAST = 8, 64
FPR, SIZES = 1e-3, (25, 50, 100, 200, 400, 800)
"""Of the scan: its usual ones."""
PEERS = {"hf-lefthash": ("lefthash", 1), "hf-selfhash": ("selfhash", 4)}
"""The scheme of transformers, and its context width, for each of ours that it knows."""
Ways = dict[str, Callable[[], Any]]


class Spent(NamedTuple):
    """Seconds of one turn."""

    processor: float
    wall: float


def take_turns(prepare: Callable[[int], Ways], rounds: int) -> dict[str, list[Spent]]:
    """What every way took in each round; a round before the first is not counted.

    Args:
        prepare: the ways of a round, from its number; what it does is not counted.
    """
    spent: dict[str, list[Spent]] = {}
    for number in range(rounds + 1):
        for name, work in prepare(number).items():
            before = Spent(time.process_time(), time.perf_counter())
            work()
            took = Spent(time.process_time() - before.processor, time.perf_counter() - before.wall)
            if number:
                spent.setdefault(name, []).append(took)
    return spent


def middle(turns: Sequence[Spent], kind: str = "processor") -> float:
    """The median of processor or wall seconds."""
    return statistics.median(getattr(turn, kind) for turn in turns)


def times(slow: Sequence[Spent], fast: Sequence[Spent], scale: float = 1.0, kind: str = "processor") -> str:
    """The median ratio within a round, and its range.

    Args:
        scale: by which the work of the fast way was more.
    """
    ratios = sorted(scale * getattr(a, kind) / getattr(b, kind) for a, b in zip(slow, fast, strict=True))
    return f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} .. {ratios[-1]:.1f})"


def ours(scheme: str, key: int) -> Watermark:
    """A mark; where transformers has the scheme too, with the context width it is given."""
    width = PEERS[scheme][1] if scheme == "hf-selfhash" else None
    return Watermark(scheme, vocab_size=VOCABULARY, gamma=GAMMA, delta=DELTA, key=key, context_width=width)


def theirs(scheme: str, key: int) -> Any:
    """transformers' processor of the same lists."""
    from transformers.generation.logits_process import WatermarkLogitsProcessor

    name, width = PEERS[scheme]
    return WatermarkLogitsProcessor(
        VOCABULARY, "cpu", GAMMA, DELTA, hashing_key=key, seeding_scheme=name, context_width=width
    )


def their_detector(scheme: str, key: int) -> Any:
    """transformers' detector, told to count an n-gram once, as ours does."""
    from transformers import GPT2Config, WatermarkDetector, WatermarkingConfig

    name, width = PEERS[scheme]
    config = WatermarkingConfig(GAMMA, DELTA, hashing_key=key, seeding_scheme=name, context_width=width)
    model = GPT2Config(vocab_size=VOCABULARY, bos_token_id=VOCABULARY - 1)
    return WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=True)


def tiny_gpt2() -> Any:
    """A GPT-2 of 4 layers and width 256 with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = {"n_layer": 4, "n_embd": 256, "n_head": 4, "n_positions": 512}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **size)).eval()


def steps_of(model: Any, batch: int, count: int) -> Callable[[], None]:
    """``count`` steps of a language model for a batch of rows, with ``PAST`` ids before the first."""
    with torch.no_grad():
        past = model(torch.randint(VOCABULARY - 1, (batch, PAST)), use_cache=True).past_key_values
    ids = torch.randint(VOCABULARY - 1, (count, batch, 1))

    def work() -> None:
        with torch.no_grad():
            for row in ids:
                model(row, past_key_values=past, use_cache=True)

    return work


def contexts(number: int, batch: int, count: int) -> tuple[Tensor, Tensor]:
    """Ids [count, batch, CONTEXT], no last id twice, and scores [batch, V], other ones in every round."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(VOCABULARY - 1, (count, batch, CONTEXT), generator=generator)
    ids[..., -1] = torch.randperm(VOCABULARY - 1, generator=generator)[: count * batch].view(count, batch)
    return ids, 3 * torch.randn(batch, VOCABULARY, generator=generator)


def rows_of_calls(scheme: str, rounds: int, threads: int, batches: Sequence[int], calls: int) -> Iterator[str]:
    """A row for each batch size: a call of both processors, and a step of the tiny GPT-2."""
    model = tiny_gpt2()
    for batch in batches:
        count = max(1, calls // batch)

        def prepare(number: int, batch: int = batch, count: int = count) -> Ways:
            ids, scores = contexts(number, batch, count)
            own, peer = ours(scheme, KEY + number).processor(), theirs(scheme, KEY + number)
            return {
                "theirs": lambda: [peer(row, scores) for row in ids],
                "ours": lambda: [own(row, scores) for row in ids],
                "step": steps_of(model, batch, count),
            }

        spent = take_turns(prepare, rounds)
        step = middle(spent["step"])
        cells = (
            str(batch), str(threads),
            *(f"{1000 * middle(spent[way]) / count:.2f}" for way in ("theirs", "ours")),
            times(spent["theirs"], spent["ours"]),
            *(f"{1000 * middle(spent[way], 'wall') / count:.2f}" for way in ("theirs", "ours")),
            f"{1000 * step / count:.1f}",
            *(f"{100 * middle(spent[way]) / step:.1f} %" for way in ("theirs", "ours")),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def rows_processor(rounds: int, threads: int, batches: Sequence[int] = (1, 8, 32), calls: int = 256) -> Iterator[str]:
    """| batch | threads | transformers ms | Assay ms | times faster | ... |."""
    return rows_of_calls("hf-lefthash", rounds, threads, batches, calls)


def rows_selfhash(rounds: int, threads: int, batches: Sequence[int] = (1, 8, 32), calls: int = 32) -> Iterator[str]:
    """The same for selfhash."""
    return rows_of_calls("hf-selfhash", rounds, threads, batches, calls)


def documents(number: int, count: int, length: int) -> np.ndarray:
    """Ids [count, length] that come as often as words do: the r-th commonest with 1 / (r + 2.7)."""
    stream = np.random.default_rng(number)
    weights = 1 / (np.arange(VOCABULARY - 1) + 2.7)
    ranks = np.searchsorted(np.cumsum(weights / weights.sum()), stream.random((count, length)))
    return stream.permutation(VOCABULARY - 1)[np.minimum(ranks, VOCABULARY - 2)]


def rows_detection(rounds: int, threads: int, count: int = 32, length: int = 200, many: int = 20) -> Iterator[str]:
    """| scheme | documents | threads | transformers ids/s | Assay ids/s | times faster | ... |."""
    for scheme, more in (("hf-lefthash", 1), ("hf-selfhash", 1), ("hf-lefthash", many), ("philox", many)):
        peer = scheme if scheme in PEERS else "hf-lefthash"

        def prepare(number: int, scheme: str = scheme, peer: str = peer, more: int = more) -> Ways:
            detector, own = their_detector(peer, KEY + number), ours(scheme, KEY + number)
            ids = documents(number, more * count, length)
            few, all_of_them = torch.from_numpy(ids[:count]), list(ids)
            return {
                "theirs": lambda: detector(few, return_dict=True),
                "ours": lambda: list(own.detect_many(all_of_them)),
            }

        spent = take_turns(prepare, rounds)
        work = {"theirs": count * length, "ours": more * count * length}
        cells = (
            scheme, str(more * count), str(threads),
            *(f"{work[way] / middle(spent[way]):,.0f}" for way in work),
            times(spent["theirs"], spent["ours"], more),
            *(f"{work[way] / middle(spent[way], 'wall'):,.0f}" for way in work),
            times(spent["theirs"], spent["ours"], more, "wall"),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def rows_scan(rounds: int, threads: int, count: int = 1000, length: int = 1000) -> Iterator[str]:
    """| scheme | threads | ids | ids a processor second, ids a second, with p-values; the same with windows |."""
    for scheme in ("philox", "hf-lefthash"):

        def prepare(number: int, scheme: str = scheme) -> Ways:
            one, other = (ours(scheme, KEY + 2 * number + second) for second in (0, 1))
            ids = list(documents(number, count, length))
            return {
                "p-values": lambda: list(one.detect_many(ids)),
                "windows": lambda: scan(other.scheme, ids, fpr=FPR, sizes=SIZES),
            }

        spent = take_turns(prepare, rounds)
        rates = [f"{count * length / middle(turns, kind):,.0f}" for turns in spent.values() for kind in Spent._fields]
        yield f"| {scheme} | {threads} | {count * length:,} | {' | '.join(rates)} |"


CALLS = (
    "| batch | threads | transformers ms | Assay ms | times faster (range) | transformers wall ms | Assay wall ms "
    "| tiny GPT-2's step ms | transformers' share of it | Assay's share |"
)
HEADS = {
    "processor": CALLS,
    "selfhash": CALLS,
    "detection": "| scheme | documents | threads | transformers ids/s | Assay ids/s | times faster (range) "
    "| transformers ids/s of wall time | Assay ids/s of wall time | times faster in wall time (range) |",
    "scan": "| scheme | threads | ids | p-values: ids a processor second | ids a second of wall time "
    "| windows: ids a processor second | ids a second of wall time |",
}
PARTS: dict[str, Callable[..., Iterator[str]]] = {
    "processor": rows_processor,
    "selfhash": rows_selfhash,
    "detection": rows_detection,
    "scan": rows_scan,
}


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="processor, selfhash, detection, scan (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for part in options.parts or PARTS:
        print(f"\n{HEADS[part]}\n{'|---' * (HEADS[part].count('|') - 1)}|")
        for threads in options.threads:
            torch.set_num_threads(threads)
            kernel.set_threads(threads)
            for row in PARTS[part](options.rounds, threads):
                print(row, flush=True)


if __name__ == "__main__":
    main()
