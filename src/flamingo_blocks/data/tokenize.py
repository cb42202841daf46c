"""Documents to token ids and back, with the paper's layout of tags."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

from flamingo_blocks.data.documents import InterleavedDocument, MediaSegment, Segment, TextSegment
from flamingo_blocks.ops.next_token_loss import IGNORED


@runtime_checkable
class TextTokenizer(Protocol):
    """What tokenising needs: text to ids, and ids to text. Neither adds special tokens.

    Example:
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(map(chr, ids))
        >>> tokenizer: TextTokenizer = Letters()
        >>> tokenizer.encode("cat"), tokenizer.decode([99, 97, 116])
        ([99, 97, 116], 'cat')
    """

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that are no text. They may lie beyond the language model's own table.

    Args:
        media: Id of the media tag, or the ids of a tag that is written in several tokens, as the paper's `<image>` is.
        end_of_chunk: Id of `<EOC>`; none is written when None.
        bos: Id that begins a document; none is written when None.
        eos: Id that ends a document; none is written when None.
        end_of_chunk_text: String that stands for `<EOC>` in text. None: text has no such string.

    Raises:
        ValueError: If `media` is neither a whole number nor some of them.

    Example:
        >>> SpecialTokens(media=32001, end_of_chunk=32000, bos=1).media_ids
        (32001,)
    """

    media: int | tuple[int, ...]
    end_of_chunk: int | None = None
    bos: int | None = None
    eos: int | None = None
    end_of_chunk_text: str | None = None

    def __post_init__(self) -> None:
        ids = self.media if isinstance(self.media, tuple | list) else (self.media,)
        if not ids or not all(hasattr(one, "__index__") for one in ids):
            raise ValueError(f"media is {self.media!r}, wanted the id of the tag, or a tuple of ids")

    @property
    def media_ids(self) -> tuple[int, ...]:
        """The tag, token by token."""
        return (self.media,) if isinstance(self.media, int) else self.media


@dataclass(frozen=True)
class TokenizedDocument:
    """The token ids of a document, and which of them are no text.

    Args:
        ids: Token ids.
        tags: Position of the first token of each tag; tag k belongs to item k of `media`.
        media: Images and clips in order.
        inserted: Positions of the other tokens that are not in the text: begin, end of chunk, end.

    Example:
        >>> media = InterleavedDocument.from_parts([b"..."]).media
        >>> tokenized = TokenizedDocument(ids=(97, 901, 98), tags=(1,), media=media)
        >>> [tokenized.ids[tag] for tag in tokenized.tags]  # one tag an item
        [901]
    """

    ids: tuple[int, ...]
    tags: tuple[int, ...]
    media: tuple[MediaSegment, ...]
    inserted: frozenset[int] = frozenset()


def tokenize_document(
    document: InterleavedDocument,
    *,
    tokenizer: TextTokenizer,
    special: SpecialTokens,
    end_before_media: bool = True,
    end_before_first_media: bool = True,
    end_of_document: bool = True,
) -> TokenizedDocument:
    """Write a document as token ids.

        <BOS> text <EOC> <image> text <EOC> <image> text <EOC> <EOS>

    Args:
        document: Text, images and clips; it is merged first.
        tokenizer: Encodes the text of each segment by itself.
        special: Ids of the tags.
        end_before_media: Write `<EOC>` before every tag, except where nothing precedes the tag and where the text says
            `<EOC>` itself since the last tag.
        end_before_first_media: Write it before the first tag too; OpenFlamingo does not.
        end_of_document: Close the last chunk by `<EOC>` and the document by `<EOS>`; a prompt has neither.

    Returns:
        The ids, with the positions of tags and of inserted tokens.

    Raises:
        ValueError: If a text encodes to one of the special ids, so that the document could not be told from its ids.

    Example:
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(map(chr, ids))
        >>> document = InterleavedDocument.from_tagged("a<image>b", ["b.jpg"])
        >>> tokenize_document(document, tokenizer=Letters(), special=SpecialTokens(media=901, end_of_chunk=902)).ids
        (97, 902, 901, 98, 902)

    Source:
        Flamingo (arXiv 2204.14198), section 2.4 and figure 7; `<EOC>` closes text before the first image there too.
    """
    ids: list[int] = [] if special.bos is None else [special.bos]
    tags: list[int] = []
    inserted = set(range(len(ids)))
    chunk = len(ids)  # where the text since the last tag began

    def end_chunk() -> None:
        if special.end_of_chunk is not None and special.end_of_chunk not in ids[chunk:]:
            inserted.add(len(ids))
            ids.append(special.end_of_chunk)

    document = document.merged()
    for segment in document.segments:
        if isinstance(segment, TextSegment):
            ids += _encode(segment.text, tokenizer, special)
            continue
        if end_before_media and (tags or (end_before_first_media and len(ids) > chunk)):
            end_chunk()
        tags.append(len(ids))
        ids += special.media_ids
        chunk = len(ids)
    if end_of_document and document.segments:
        end_chunk()
    if end_of_document and special.eos is not None:
        inserted.add(len(ids))
        ids.append(special.eos)
    return TokenizedDocument(tuple(ids), tuple(tags), document.media, frozenset(inserted))


def detokenize_document(
    tokenized: TokenizedDocument, *, tokenizer: TextTokenizer, special: SpecialTokens
) -> InterleavedDocument:
    """Read a document back from its token ids.

    Args:
        tokenized: What `tokenize_document` gave.
        tokenizer: Decodes each run of text.
        special: Ids of the tags.

    Returns:
        The merged document, if the tokenizer decodes what it encoded to the same text. Metadata is not in the tokens.

    Example:
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(map(chr, ids))
        >>> image = InterleavedDocument.from_parts([b"..."]).media
        >>> tokenized = TokenizedDocument(ids=(97, 901, 98), tags=(1,), media=image)
        >>> detokenize_document(tokenized, tokenizer=Letters(), special=SpecialTokens(media=901)).segments[::2]
        (TextSegment(text='a'), TextSegment(text='b'))
    """
    width = len(special.media_ids)
    starts = [0, *(tag + width for tag in tokenized.tags)]
    stops = [*tokenized.tags, len(tokenized.ids)]
    segments: list[Segment] = []
    for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        kept = [tokenized.ids[place] for place in range(start, stop) if place not in tokenized.inserted]
        segments.append(TextSegment(decode_text(kept, tokenizer=tokenizer, special=special)))
        segments += tokenized.media[index : index + 1]
    return InterleavedDocument(tuple(segments)).merged()


def decode_text(ids: Sequence[int], *, tokenizer: TextTokenizer, special: SpecialTokens) -> str:
    """Decode ids among which `<EOC>` may stand, which the tokenizer need not know.

    Args:
        ids: Ids of text and of `<EOC>`.
        tokenizer: Decodes the runs between them.
        special: Says the id and the string of `<EOC>`; without a string it is left out.
    """
    stops = [-1, *(place for place, token in enumerate(ids) if token == special.end_of_chunk), len(ids)]
    runs = [ids[before + 1 : after] for before, after in pairwise(stops)]
    return (special.end_of_chunk_text or "").join(tokenizer.decode(run) if len(run) else "" for run in runs)


def document_labels(
    tokenized: TokenizedDocument,
    *,
    special: SpecialTokens,
    mask_tags: bool = True,
    mask_between_chunks: bool = False,
    mask_before_first_media: bool = False,
) -> tuple[int, ...]:
    """Labels of a document for next-token training: its ids, and -100 where no loss is taken.

    The begin of the document is never predicted; `<EOC>` and `<EOS>` are. `training.make_labels` gives the same for a
    whole batch.

    Args:
        tokenized: The document.
        special: Ids of the tags.
        mask_tags: Take no loss on tags. The paper does not tell what it did with its tag, which is plain text; a
            `Flamingo` takes none on the id that it knows as its tag, whatever the labels say.
        mask_between_chunks: Take no loss on what stands between an `<EOC>` and the next tag, or the end.
        mask_before_first_media: Take no loss before the first tag. With the one before it is OpenFlamingo's rule for
            MMC4.

    Returns:
        One label a token, not shifted.

    Example:
        >>> tokenized = TokenizedDocument(ids=(7, 902, 901, 8, 902), tags=(2,), media=())
        >>> document_labels(tokenized, special=SpecialTokens(media=901, end_of_chunk=902))
        (7, 902, -100, 8, 902)
    """
    ids, width = tokenized.ids, len(special.media_ids)
    starts = [0, *(tag + width for tag in tokenized.tags)]
    stops = [*tokenized.tags, len(ids)]
    ignored = [range(tag, tag + width) for tag in tokenized.tags if mask_tags]
    if ids and 0 in tokenized.inserted and ids[0] == special.bos:
        ignored.append(range(1))
    if mask_before_first_media:
        ignored.append(range(stops[0]))
    if mask_between_chunks and special.end_of_chunk is not None:
        for start, stop in zip(starts, stops, strict=True):
            if special.end_of_chunk in (chunk := ids[start:stop]):
                ignored.append(range(start + chunk.index(special.end_of_chunk) + 1, stop))
    labels = list(ids)
    for run in ignored:
        labels[run.start : run.stop] = [IGNORED] * len(run)
    return tuple(labels)


def _encode(text: str, tokenizer: TextTokenizer, special: SpecialTokens) -> list[int]:
    """Ids of a text, with `<EOC>` where the text says so."""
    pieces = [text] if special.end_of_chunk_text is None else text.split(special.end_of_chunk_text)
    if len(pieces) > 1 and special.end_of_chunk is None:
        raise ValueError(
            f"text says {special.end_of_chunk_text!r} in {text!r}, but special.end_of_chunk is None; give its id"
        )
    encoded = [list(tokenizer.encode(piece)) if piece else [] for piece in pieces]
    names = {special.end_of_chunk: "end_of_chunk", special.bos: "bos", special.eos: "eos"}
    if len(special.media_ids) == 1:  # a tag of several tokens is known by its position alone
        names[special.media_ids[0]] = "media"
    for piece, ids in zip(pieces, encoded, strict=True):
        found = next((token for token in ids if token in names), None)
        if found is not None:
            raise ValueError(
                f"text {piece!r} encodes to the id {found}, which is special.{names[found]}; "
                "remove the string from the text, or give the special token an id of its own"
            )
    return _join(encoded, special.end_of_chunk)


def _join(runs: Iterable[list[int]], separator: int | None) -> list[int]:
    joined: list[int] = []
    for index, run in enumerate(runs):
        if index and separator is not None:
            joined.append(separator)
        joined += run
    return joined
