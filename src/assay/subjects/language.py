"""Causal language models: a model of transformers with its tokenizer, and the losses of texts under it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import DataError, ModelError, did_you_mean
from ..core.files import read_json
from ..core.progress import Progress
from .huggingface import first_line, pretrained, quietly, require_transformers, short_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KINDS = {
    "hf": "hf:DIR or hf:ORG/NAME, a transformers causal language model",
    "run": "run:DIR (or just DIR), a training of 'assay train causal-lm'",
}
MODEL, KIND = "model.json", "causal-lm"
CELLS = 2**25
"""Logits held at once, rows x positions x vocabulary; 128 MiB in float32."""
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")


class LanguageModel:
    """A causal language model with its tokenizer.

    The model is put into evaluation mode, and its weights are left as they are.

    Args:
        model: a causal model of transformers, or a module whose answer to ids [B, T] has ``.logits`` [B, T, V] and
            which has a ``.config``.
        tokenizer: of transformers; None: ids only.
        name: how records call it.
        source: where it came from.

    Attributes:
        vocab_size: width V of the logits, which watermarks are made for; often above the tokenizer's own size.
        context: largest number of positions; None where there is no limit.
        stops: ids that end a text.
    """

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        name: str = "language model",
        source: str = "",
    ) -> None:
        self.model: Any = model.eval()
        self.tokenizer, self.name, self.source = tokenizer, name, source
        config = self.model.config
        self.vocab_size = _width(self.model)
        limits = (getattr(config, key, None) for key in LENGTHS)
        self.context: int | None = next((int(value) for value in limits if value), None)
        self.stops: tuple[int, ...] = tuple(sorted(_ids(config, tokenizer, self.model)))

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r}, vocab_size={self.vocab_size}, context={self.context})"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = next(iter(self.model.parameters())).device
        return found

    @cached_property
    def digest(self) -> str:
        """BLAKE2b over configuration, weights and vocabulary: 32 hex digits."""
        total = hashlib.blake2b(digest_size=16)
        total.update(f"{type(self.model).__name__}|{self.vocab_size}|{self.context}".encode())
        for name, value in sorted(self.model.state_dict().items()):
            total.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        if self.tokenizer is not None:
            total.update(repr(sorted(self.tokenizer.get_vocab().items())).encode("utf-8", "backslashreplace"))
        return total.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a record says of the model."""
        return {
            "name": self.name,
            "source": self.source,
            "digest": self.digest,
            "task": "language modelling",
            "architecture": type(self.model).__name__,
            "vocab_size": self.vocab_size,
            "context": self.context,
            "parameters": sum(value.numel() for value in self.model.parameters()),
        }

    def encode(self, text: str, *, prompt: bool = False) -> list[int]:
        """The ids of a text.

        Args:
            text: any text.
            prompt: whether the model will go on from it: the ids that it wants at the start of a text come first, and
                an empty prompt is the id that begins or ends texts.
        """
        tokenizer = self._tokenizer()
        ids: list[int] = tokenizer(text, add_special_tokens=prompt, verbose=False)["input_ids"]
        if prompt and not ids:
            first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else next(iter(self.stops), None)
            if first is None:
                raise DataError(f"The prompt is empty, and the model {self.name!r} has no id to begin with. Give text.")
            ids = [int(first)]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; ids that stand for no text, such as the end of one, leave nothing."""
        text: str = self._tokenizer().decode(
            [int(token) for token in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def losses(
        self, ids: Sequence[Sequence[int]], *, batch_size: int = 16, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """-log p(x_t | x_<t) of every token but the first of each text, in nats.

        A text longer than the model's context is read in windows that overlap by half, so that every token beyond the
        first window has at least half a context before it.

        Args:
            ids: texts as lists of ids in 0..V-1.
            batch_size: texts at once, at most; memory limits them too.
            progress: where progress is shown; nowhere by default.

        Returns:
            One float32 array [T - 1] a text; empty for texts of fewer than two ids.

        Raises:
            DataError: an id that the model does not have.

        Cost: 1 forward pass a token, up to 2 for long texts.
        """
        texts = [self.check_ids(text, f"text {number}") for number, text in enumerate(ids)]
        found = [np.zeros(max(0, len(text) - 1), np.float32) for text in texts]
        pieces = [(row, *piece) for row, text in enumerate(texts) for piece in self._windows(len(text))]
        pieces.sort(key=lambda piece: piece[2] - piece[1])
        with (progress or Progress(enabled=False)).task("losses of texts", total=len(pieces)) as task:
            for batch in self._groups(pieces, batch_size):
                rows = [texts[row][start:stop] for row, start, stop, _ in batch]
                answers = self._batch_losses(rows)
                for (row, start, stop, first), values in zip(batch, answers, strict=True):
                    found[row][first - 1 : stop - 1] = values[first - start - 1 : stop - start - 1]
                task.advance(len(batch))
        return found

    @torch.no_grad()
    def next_probabilities(self, ids: Sequence[int]) -> Tensor:
        """What the model expects at every place but the first: row t is p(. | x_0 .. x_t), for x_(t+1).

        Args:
            ids: a text of T ids, at least 2.

        Returns:
            [T - 1, V] in float32, on the CPU.
        """
        text = self.check_ids(ids, "the text")
        found = torch.empty(max(0, len(text) - 1), self.vocab_size)
        for start, stop, first in self._windows(len(text)):
            logits = self._logits(torch.tensor([text[start:stop]]))[0, first - start - 1 : -1]
            found[first - 1 : stop - 1] = logits.softmax(1).cpu()
        return found

    def check_ids(self, ids: Sequence[int], where: str) -> list[int]:
        """The ids as plain integers; DataError names the first that is outside 0..V-1."""
        plain = [int(token) for token in ids]
        for place, token in enumerate(plain):
            if not 0 <= token < self.vocab_size:
                raise DataError(
                    f"Id {token} at position {place} of {where} is outside the vocabulary of {self.name!r}, which has "
                    f"the ids 0 to {self.vocab_size - 1}. Encode the text with the tokenizer of this model."
                )
        return plain

    def to(self, device: torch.device | str) -> LanguageModel:
        """The model moved to a device, in place."""
        self.model.to(device)
        return self

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise ModelError(f"The model {self.name!r} has no tokenizer; give ids in the place of text.")
        return self.tokenizer

    def _windows(self, length: int) -> Iterator[tuple[int, int, int]]:
        """Start, end, and first place that is scored, of the windows over a text."""
        limit = self.context or length
        first = 1
        while first < length:
            start = 0 if first == 1 else max(0, first - limit // 2)
            stop = min(length, start + limit)
            yield start, stop, first
            first = stop

    def _groups(
        self, pieces: list[tuple[int, int, int, int]], batch_size: int
    ) -> Iterator[list[tuple[int, int, int, int]]]:
        """Batches of windows sorted by length, bounded by the memory of their logits."""
        batch: list[tuple[int, int, int, int]] = []
        for piece in pieces:
            cells = (len(batch) + 1) * (piece[2] - piece[1]) * self.vocab_size
            if batch and (len(batch) == batch_size or cells > CELLS):
                yield batch
                batch = []
            batch.append(piece)
        if batch:
            yield batch

    @torch.no_grad()
    def _batch_losses(self, rows: list[list[int]]) -> list[np.ndarray]:
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        logits = self._logits(ids, mask)[:, :-1]
        values = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:].to(logits.device), reduction="none").cpu().numpy()
        return [values[place, : len(row) - 1] for place, row in enumerate(rows)]

    def _logits(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, T] -> [B, T, V] in float32; texts are padded at their right end, where no token sees the padding."""
        more = {} if mask is None else {"attention_mask": mask.to(self.device)}
        logits: Tensor = self.model(input_ids=ids.to(self.device), use_cache=False, **more).logits
        return logits.float()


def load_language_model(spec: str | LanguageModel, *, device: torch.device | str | None = None) -> LanguageModel:
    """A causal language model by name.

    Weights are read from safetensors alone, and code that comes with a model is never run.

    Args:
        spec: ``"hf:<folder or id>"``, or ``"run:<folder>"`` or the folder alone for a training of Assay. A
            LanguageModel is given back.
        device: where to work; default: the CPU.

    Raises:
        MissingExtra: transformers is not installed.
        ModelError: not found, damaged, or no causal language model; the message says what to do.
    """
    if isinstance(spec, LanguageModel):
        return spec if device is None else spec.to(device)
    kind, rest = _kind(str(spec))
    if kind == "run":
        _check_run(rest)
    what = "a causal language model"
    model = pretrained("AutoModelForCausalLM", rest, what=what, safetensors=True)
    short = short_name(rest)
    found = LanguageModel(model, _load_tokenizer(rest), name=short, source=f"{kind}:{short}")
    return found if device is None else found.to(device)


def _kind(spec: str) -> tuple[str, str]:
    kind, colon, rest = spec.partition(":")
    if colon and kind in KINDS and rest:
        return kind, rest
    if spec and Path(spec).is_dir():
        return ("run" if (Path(spec) / MODEL).is_file() else "hf"), spec
    hint = did_you_mean(kind, KINDS) if colon else ""
    raise ModelError(
        f"Cannot tell what the language model {spec!r} is: no folder has this name.{hint} "
        f"Allowed: {'; '.join(KINDS.values())}."
    )


def _check_run(folder: str) -> None:
    path = Path(folder) / MODEL
    if not path.is_file():
        raise ModelError(
            f"{folder!r} holds no finished training: {MODEL} is needed. Repeat the 'assay train' command to finish it, "
            "or write 'hf:FOLDER' for a transformers model."
        )
    about = read_json(path)
    if not isinstance(about, dict) or about.get("kind") != KIND:
        raise ModelError(f"{folder!r} holds no language model. Train one with 'assay train causal-lm'.")


def _load_tokenizer(name: str) -> Any:
    transformers = require_transformers()
    local = Path(name).is_dir()
    cause: Exception | None = None
    try:
        with quietly(transformers):
            found = transformers.AutoTokenizer.from_pretrained(name, local_files_only=local, trust_remote_code=False)
        # Where its files are missing, transformers makes one that knows no text.
        if len(found) > len(found.all_special_ids):
            return found
        reason = "its files are missing"
    except Exception as error:  # transformers raises many kinds for files that are missing or damaged
        cause, reason = error, first_line(error)
    raise ModelError(
        f"The tokenizer of 'hf:{name}' cannot be loaded: {reason}. Save it into the folder of the model with "
        "tokenizer.save_pretrained(FOLDER)."
    ) from cause


def _width(model: Any) -> int:
    """Width of the logits: rows of the output matrix where it can be asked for, else what the configuration says."""
    try:
        head = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        head = None
    weight = getattr(head, "weight", None)
    return int(weight.shape[0]) if isinstance(weight, Tensor) and weight.ndim == 2 else int(model.config.vocab_size)


def _ids(config: Any, tokenizer: Any, model: Any) -> set[int]:
    """All ids that anyone declares the end of a text."""
    found: set[int] = set()
    for holder in (config, getattr(model, "generation_config", None), tokenizer):
        value = getattr(holder, "eos_token_id", None)
        found.update(int(item) for item in (value if isinstance(value, (list, tuple)) else [value]) if item is not None)
    return found
