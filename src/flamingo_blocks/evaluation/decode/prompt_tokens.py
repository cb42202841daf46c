"""Prompts as token ids: what may be run before the rest is known, and where candidates begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flamingo_blocks.data import InterleavedDocument, TextSegment, tokenize_document
from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.data.plain_text import plain_tokenizer
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.check_candidates import check_candidates
from flamingo_blocks.evaluation.decode.num_alike import num_alike
from flamingo_blocks.models.processor import FlamingoProcessor

_REMEMBERED = 2**16  # texts: shots come again with every query


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as token ids.

    Args:
        ids: Token ids.
        tags: Position of the first token of each tag.
        media: Images and clips, one a tag.
        stable: How many of the tokens stay, whatever text follows: those up to the last tag or `<EOC>`.
        tail: The text behind those, whose tokens may be others once more text follows.
    """

    ids: tuple[int, ...]
    tags: tuple[int, ...]
    media: tuple[MediaSegment, ...]
    stable: int
    tail: str


class PromptTokenizer:
    """Writes prompts as token ids, as a processor does.

    Args:
        processor: Says the tokenizer, the ids of tags and where `<EOC>` is written.
    """

    def __init__(self, processor: FlamingoProcessor) -> None:
        self.processor, self.special = processor, processor.special
        self._tokenizer = _Remembering(plain_tokenizer(processor.tokenizer))

    def prompt(self, *documents: InterleavedDocument) -> TokenizedPrompt:
        """Write documents that follow each other as one prompt.

        Args:
            documents: Shots and query, say.
        """
        document = InterleavedDocument(tuple(part for one in documents for part in one.segments)).merged()
        tokenized = tokenize_document(
            document,
            tokenizer=self._tokenizer,
            special=self.special,
            end_before_media=self.processor.end_before_media,
            end_before_first_media=self.processor.end_before_first_media,
            end_of_document=False,
        )
        tail = _text_at_the_end(document)
        if self.special.end_of_chunk_text is not None:
            tail = tail.rpartition(self.special.end_of_chunk_text)[2]
        stable = len(tokenized.ids) - (len(self._tokenizer.encode(tail)) if tail else 0)
        return TokenizedPrompt(tokenized.ids, tokenized.tags, tokenized.media, stable, tail)

    def candidates(
        self, prompt: TokenizedPrompt, candidates: Sequence[str], *, terminator: bool
    ) -> tuple[int, tuple[tuple[int, ...], ...]]:
        """The tokens of candidates behind a prompt: those of prompt and candidate together, less the prompt's.

        Where a candidate changes the last tokens of the prompt, as behind a space, the border moves back for all
        candidates of the prompt alike: sums of different beginnings could not be compared.

        Args:
            prompt: What stands before.
            candidates: Texts.
            terminator: Whether `<EOC>` ends each of them.

        Returns:
            How many tokens of the prompt are kept, and the tokens of each candidate behind those.

        Raises:
            EvaluationError: If there are none, one is empty, comes twice, or holds a special token.
        """
        self._check(candidates)
        own = prompt.ids[prompt.stable :]
        joint = [self._tokenizer.encode(prompt.tail + candidate) for candidate in candidates]
        for ids in joint:
            if tuple(ids[: len(own)]) != own:
                own = own[: num_alike(own, ids)]
        kept = len(own)
        end = () if not terminator or self.special.end_of_chunk is None else (self.special.end_of_chunk,)
        specials = {self.special.end_of_chunk, self.special.bos, self.special.eos, *self.special.media_ids[:1]}
        found = []
        for candidate, ids in zip(candidates, joint, strict=True):
            rest = tuple(ids[kept:])
            if not rest or not specials.isdisjoint(rest):
                special = next((token for token in rest if token in specials), None)
                what = "no token" if special is None else f"the special token {special}"
                raise EvaluationError(f"candidate {candidate!r} encodes to {what}, wanted text; leave it out")
            found.append(rest + end)
        return prompt.stable + kept, tuple(found)

    def _check(self, candidates: Sequence[str]) -> None:
        if isinstance(candidates, str) or not candidates:
            raise EvaluationError(f"candidates is {candidates!r}, wanted a list of texts for each query, one at least")
        check_candidates(candidates)


class _Remembering:
    """A tokenizer that encodes a text once."""

    def __init__(self, tokenizer: Any) -> None:
        self._encode = lru_cache(_REMEMBERED)(lambda text: tuple(tokenizer.encode(text)))
        self.decode = tokenizer.decode

    def encode(self, text: str) -> list[int]:
        return list(self._encode(text))


def _text_at_the_end(document: InterleavedDocument) -> str:
    last = document.segments[-1] if document.segments else None
    return last.text if isinstance(last, TextSegment) else ""
