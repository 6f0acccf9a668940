"""Documents of the studies: read from files, or written on the spot by a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...core.errors import DataError, SettingError
from ..common import note, positive, seed_number, whole
from .flags import add_reading_flags, natural, read_mark, read_tokenizers, share

if TYPE_CHECKING:
    from ...core.progress import Progress
    from ...studies.watermarking import Documents
    from ...subjects.language import LanguageModel
    from ...watermark.edits.base import Tokenizer
    from ...watermark.marks import NamedMark

BUILT_IN = "python-docs"
MOST_REMARKS = 20
PROMPT_TOKENS = 30


def add_corpus_flags(parser: argparse.ArgumentParser) -> None:
    """How documents are read, and how much of them."""
    group = add_reading_flags(parser)
    group.add_argument("--limit", type=whole, metavar="N", help="use the first N documents of each kind (default: all)")
    group.add_argument("--tokens", type=whole, metavar="T", help="use the first T tokens of every document")


def add_writing_flags(parser: argparse.ArgumentParser) -> None:
    """How texts are written where none are given."""
    group = parser.add_argument_group("texts written on the spot")
    group.add_argument("--model", metavar="MODEL", help="hf:FOLDER, or the folder of 'assay train causal-lm'")
    group.add_argument(
        "--prompts",
        nargs="+",
        metavar="FILE",
        help="prompts: .jsonl with a field 'prompt', or a .txt file each; without them, unmarked texts are continued",
    )
    group.add_argument(
        "--prompt-tokens",
        type=whole,
        default=PROMPT_TOKENS,
        metavar="N",
        help=f"first tokens of an unmarked text that are continued, where there are no prompts (default: "
        f"{PROMPT_TOKENS})",
    )
    group.add_argument("--new-tokens", type=whole, default=200, metavar="T", help="tokens a text (default: 200)")
    group.add_argument("--temperature", type=positive, default=1.0, metavar="X", help="of the draws (default: 1)")
    group.add_argument("--top-k", type=natural, default=0, metavar="K", help="draw from the K likeliest; 0: from all")
    group.add_argument("--top-p", type=share, metavar="P", help="draw from the likeliest tokens with this mass")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cpu)")
    group.add_argument(
        "--batch-size", type=whole, default=16, metavar="N", help="prompts at once; texts do not depend on it"
    )


def add_study_flags(parser: argparse.ArgumentParser, out: str) -> None:
    """Claims, seed, folder and progress."""
    parser.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="CLAIM",
        help="what must hold, such as 'true_positive_rate@p:0.001 >= 0.9'; may be repeated",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument("--out", default=out, metavar="FOLDER", help=f"folder for the results (default: {out})")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")


@dataclass
class Reader:
    """Reads documents as the flags say, and counts what could not be read.

    Args:
        arguments: with the flags of ``add_corpus_flags``.
        tokenizer: for text; None for ids.
        clean: what happens to text first.
    """

    arguments: argparse.Namespace
    tokenizer: Tokenizer | None
    clean: Callable[[str], str] = str
    bad: int = field(default=0, init=False)

    def read(self, paths: Sequence[str], name: str) -> Documents:
        """The documents of some paths, or of the built-in corpus."""
        import numpy as np

        from ...studies.watermarking import Documents
        from ...watermark.documents import Document, read

        options, found, names = self.arguments, [], []
        for item in (
            self._built_in()
            if list(paths) == [BUILT_IN]
            else read(
                paths,
                kind="ids" if options.ids else "text",
                field=options.field,
                id_field=options.id_field,
            )
        ):
            if not isinstance(item, Document):
                self._refuse(item)
                continue
            ids = item.ids if item.text is None else self._encoded(item.text)
            found.append(np.asarray(ids, dtype=np.int64)[: options.tokens])
            names.append(item.id if item.last and not item.part else f"{item.id}, piece {item.part + 1}")
            if options.limit is not None and len(found) >= options.limit:
                break
        if not found:
            raise DataError(f"There is no {name} that can be read in {', '.join(map(str, paths))}.")
        label = BUILT_IN if list(paths) == [BUILT_IN] else name
        return Documents(name=label, ids=found, names=tuple(names))

    def _encoded(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise SettingError("Text needs a tokenizer. Give --tokenizer hf:FOLDER, or token ids with --ids.")
        return self.tokenizer.encode(self.clean(text))

    def _built_in(self) -> Any:
        from ...data.texts import load_texts
        from ...watermark.documents import Document

        corpus = load_texts(BUILT_IN, split="test")
        for name, text in zip(corpus.names, corpus.texts, strict=True):
            yield Document(source=BUILT_IN, line=None, id=name, text=text)

    def _refuse(self, item: Any) -> None:
        self.bad += 1
        if self.bad <= MOST_REMARKS:
            where = "" if item.line is None else f", line {item.line}"
            note(f"error: {item.source}{where}: {item.reason}")


def tokenizer_of(arguments: argparse.Namespace, mark: NamedMark, lm: LanguageModel | None) -> Tokenizer | None:
    """The tokenizer that the flags name, else that of the model; None where there is neither and ids are given."""
    if mark.tokenizer is not None or lm is None or lm.tokenizer is None:
        found: Tokenizer | None = read_tokenizers([mark], ids=arguments.ids or lm is not None).get(mark.name)
        return found
    return lm


def read_model(arguments: argparse.Namespace) -> LanguageModel | None:
    """The model that the flags name, or None."""
    if arguments.model is None:
        if arguments.prompts is not None:
            raise SettingError("--prompts are for a model; give --model, or leave them out.")
        return None
    from ...subjects.language import load_language_model

    return load_language_model(arguments.model, device=arguments.device)


def mark_of(arguments: argparse.Namespace, lm: LanguageModel | None) -> NamedMark:
    """The mark that the flags name; its vocabulary is that of the model, if there is one."""
    return read_mark(arguments, None if lm is None else lm.vocab_size)


def prompts_of(arguments: argparse.Namespace, lm: LanguageModel) -> list[list[int]]:
    """The prompts that the flags name, as ids."""
    from ...watermark.documents import Document, read

    found = []
    for item in read(arguments.prompts, kind="text", field="prompt"):
        if not isinstance(item, Document):
            raise DataError(f"{item.source}, line {item.line}: {item.reason}. Every prompt must be readable.")
        found.append(lm.encode(item.text or "", prompt=True))
    found = found[: arguments.limit]
    if not found:
        raise DataError("There is no prompt in the files given; at least one is needed.")
    return found


def split_prompts(documents: Documents, prompt: int, tokens: int) -> tuple[list[list[int]], Documents]:
    """Prompts from the beginnings of documents, and what people wrote after them.

    Args:
        documents: unmarked ones; those of fewer than ``prompt + tokens`` tokens are left out.
        prompt: tokens of a prompt.
        tokens: tokens of what follows.
    """
    from ...studies.watermarking import Documents as Kept

    long_enough = [place for place, ids in enumerate(documents.ids) if len(ids) >= prompt + tokens]
    if not long_enough:
        longest = max(map(len, documents.ids))
        raise DataError(
            f"None of the {len(documents)} unmarked texts has {prompt} tokens for a prompt and {tokens} more; the "
            f"longest has {longest}. Use a smaller --prompt-tokens or --new-tokens."
        )
    if len(long_enough) < len(documents):
        note(
            f"{len(documents) - len(long_enough)} of {len(documents)} unmarked texts have fewer than {prompt + tokens} "
            "tokens, for a prompt and what follows; they are left out."
        )
    called = documents.called()
    rest = Kept(
        name=documents.name,
        ids=[documents.ids[place][prompt : prompt + tokens] for place in long_enough],
        names=tuple(called[place] for place in long_enough),
    )
    return [documents.ids[place][:prompt].tolist() for place in long_enough], rest


def write(
    arguments: argparse.Namespace,
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    mark: NamedMark | None,
    progress: Progress,
) -> Documents:
    """Texts of the model, marked or not."""
    from ...studies.watermarking import write_texts

    return write_texts(
        lm,
        prompts,
        None if mark is None else mark.watermark,
        out=arguments.out,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        progress=progress,
        new_tokens=arguments.new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p or 1.0,
    )
