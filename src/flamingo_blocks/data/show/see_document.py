"""What a model reads of a document: its tokens in runs, and which image each run sees."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import torch

from flamingo_blocks.data.documents import InterleavedDocument, MediaSegment
from flamingo_blocks.data.tokenize import (
    SpecialTokens,
    TextTokenizer,
    TokenizedDocument,
    document_labels,
    tokenize_document,
)
from flamingo_blocks.ops.media_layout import MediaLayout
from flamingo_blocks.ops.next_token_loss import IGNORED
from flamingo_blocks.types import Direction, Scope

RunKind = Literal["text", "media", "end_of_chunk", "bos", "eos"]


@dataclass(frozen=True)
class SeenRun:
    """Tokens side by side that are of one kind and see the same images.

    Args:
        kind: `"text"`, `"media"` for a tag, `"end_of_chunk"`, `"bos"` or `"eos"`.
        first: First image or clip that the run sees, from 0.
        last: Last one that it sees; -1 when it sees none. A tag sees its own last.
        num_tokens: How many tokens it is.
        ignored: Whether no loss is taken on it in training.
        text: What its tokens decode to; empty for all that is no text.

    Example:
        >>> caption = SeenRun("text", first=0, last=1, num_tokens=2, ignored=False, text=" a cat")
        >>> list(caption.sees)  # as where all earlier images are seen
        [0, 1]
        >>> list(SeenRun("text", first=0, last=-1, num_tokens=3, ignored=False, text="No image yet.").sees)
        []
    """

    kind: RunKind
    first: int
    last: int
    num_tokens: int
    ignored: bool
    text: str = ""

    @property
    def sees(self) -> range:
        """Images and clips that the run sees, from 0."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class SeenDocument:
    """A document as a model reads it.

    Args:
        runs: Its tokens in order.
        media: Images and clips in order; the k-th run of kind `"media"` is the tag of item k.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> tag, caption = SeenRun("media", 0, -1, 1, True), SeenRun("text", 0, 0, 2, False, " a cat")
        >>> seen = SeenDocument((tag, caption), media=(ImageSegment(data=b"..."),))
        >>> seen.count(), seen.count("media"), seen.num_predicted, list(seen.runs[1].sees)
        (3, 1, 2, [0])
    """

    runs: tuple[SeenRun, ...]
    media: tuple[MediaSegment, ...]

    def count(self, kind: RunKind | None = None) -> int:
        """Tokens of a kind, or all of them."""
        return sum(run.num_tokens for run in self.runs if kind in (None, run.kind))

    @property
    def num_predicted(self) -> int:
        """Tokens on which loss is taken."""
        return sum(run.num_tokens for run in self.runs if not run.ignored)


class _Place(NamedTuple):
    """What decides the run that a token belongs to; special tokens are told apart by their number."""

    kind: RunKind
    number: int
    first: int
    last: int
    ignored: bool


def see_document(
    document: InterleavedDocument,
    *,
    tokenizer: TextTokenizer,
    special: SpecialTokens,
    scope: Scope = "last",
    direction: Direction = "previous",
    group_consecutive: bool = False,
    end_before_media: bool = True,
    end_before_first_media: bool = True,
    mask_between_chunks: bool = False,
    mask_before_first_media: bool = False,
) -> SeenDocument:
    """Read a document as a model does in training.

    It is written by `tokenize_document`, its labels are those of `document_labels`, and what sees what is asked from
    `MediaLayout.from_tokens`; nothing is worked out anew. Use it to look at a layout, or to draw one.

    Args:
        document: Text, images and clips; images need no data.
        tokenizer: As in `tokenize_document`.
        special: As there.
        scope: As in `MediaLayout.from_tokens`.
        direction: As there.
        group_consecutive: As there.
        end_before_media: As in `tokenize_document`.
        end_before_first_media: As there.
        mask_between_chunks: As in `document_labels`.
        mask_before_first_media: As there.

    Returns:
        The tokens in runs, with text that was decoded again: what the tokenizer does not know shows.

    Raises:
        ValueError: If the text encodes to one of the special ids, or the layout is none.

    Example:
        >>> from flamingo_blocks.data.show.word_tokenizer import WordTokenizer
        >>> words = WordTokenizer()
        >>> document = InterleavedDocument.from_tagged("Look: <image>A cat.", [b"..."])
        >>> seen = see_document(document, tokenizer=words, special=words.special)
        >>> [(run.kind, run.text, list(run.sees)) for run in seen.runs[:5]]
        [('bos', '', []), ('text', 'Look: ', []), ('end_of_chunk', '', []), ('media', '', [0]), ('text', 'A cat.', [0])]

    Source:
        Flamingo (arXiv 2204.14198), figure 7: a document with the function phi beside it.
    """
    tokenized = tokenize_document(
        document, tokenizer=tokenizer, special=special, end_before_media=end_before_media,
        end_before_first_media=end_before_first_media,
    )  # fmt: skip
    if not tokenized.ids:
        return SeenDocument((), ())
    labels = document_labels(
        tokenized, special=special, mask_between_chunks=mask_between_chunks,
        mask_before_first_media=mask_before_first_media,
    )  # fmt: skip
    is_media = torch.zeros(1, len(tokenized.ids), dtype=torch.bool)
    is_media[0, list(tokenized.tags)] = True
    layout = MediaLayout.from_tokens(
        is_media, scope=scope, direction=direction, group_consecutive=group_consecutive
    )  # fmt: skip
    first, last = layout.first[0].tolist(), layout.last[0].tolist()
    kinds = _kinds(tokenized, special)
    for tag in tokenized.tags:  # a tag of several tokens is one: where it begins decides what it sees
        for place in range(tag, tag + len(special.media_ids)):
            first[place], last[place] = first[tag], last[tag]
    places = [
        _Place(kind, number, first[index] if last[index] >= 0 else 0, last[index], labels[index] == IGNORED)
        for index, (kind, number) in enumerate(kinds)
    ]
    return SeenDocument(tuple(_runs(places, tokenized, tokenizer)), tokenized.media)


def _kinds(tokenized: TokenizedDocument, special: SpecialTokens) -> list[tuple[RunKind, int]]:
    """What each token is. Ids alone do not tell: begin, end and end of chunk may be one and the same id."""
    end = len(tokenized.ids) - 1
    kinds: list[tuple[RunKind, int]] = []
    for place, token in enumerate(tokenized.ids):
        if place in tokenized.inserted and place == 0 and special.bos is not None:
            kinds.append(("bos", 0))
        elif place in tokenized.inserted and place == end and special.eos is not None:
            kinds.append(("eos", 0))
        elif place in tokenized.inserted or token == special.end_of_chunk:
            kinds.append(("end_of_chunk", place))
        else:
            kinds.append(("text", 0))
    for item, tag in enumerate(tokenized.tags):
        kinds[tag : tag + len(special.media_ids)] = [("media", item)] * len(special.media_ids)
    return kinds


def _runs(places: list[_Place], tokenized: TokenizedDocument, tokenizer: TextTokenizer) -> Iterator[SeenRun]:
    start = 0
    for place, group in groupby(places):
        stop = start + len(list(group))
        text = tokenizer.decode(tokenized.ids[start:stop]) if place.kind == "text" else ""
        yield SeenRun(place.kind, place.first, place.last, stop - start, place.ignored, text)
        start = stop
