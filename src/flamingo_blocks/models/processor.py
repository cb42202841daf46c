"""Interleaved text and images in, a batch for the model out; token ids in, text out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor

from flamingo_blocks.data import (
    FlamingoBatch,
    FlamingoExample,
    InterleavedDocument,
    SpecialTokens,
    collate,
    document_labels,
    tokenize_document,
)
from flamingo_blocks.data.examples.make_example import make_example
from flamingo_blocks.data.examples.read_item import item_features, item_pixels
from flamingo_blocks.data.plain_text import is_transformers, plain_tokenizer
from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.types import Scope

TAG, END = "<image>", "<EOC>"
TokenId = int | Literal["tokenizer"] | None
AS_TOKENIZER: Literal["tokenizer"] = "tokenizer"


class FlamingoProcessor:
    """Turn rows of text, images and clips into a `FlamingoBatch`, and ids back into text.

    It adds nothing to the tokenizer: the strings of the media tag and of the end of a chunk are cut out of the text
    before the tokenizer sees it, so their ids may lie beyond the language model's table, where `attach_token_rows`
    puts its rows.

    Args:
        tokenizer: A transformers tokenizer, or any object with `encode(text)` and `decode(ids)` that add nothing.
        preprocess: Turns one image into pixels: `tower.preprocess`. Without it rows are text alone.
        features: Features computed before, by key, in place of `preprocess`: a `vision.FeatureStore`. Images and clips
            are then named by their key: as `url` of their segment, or as a string in `media`.
        media_token: String of the media tag.
        end_token: String of the end of a chunk.
        media_token_id: Id of the media tag, or the ids of a tag of several tokens; None asks the tokenizer.
        end_token_id: Id of the end of a chunk; None asks the tokenizer, and writes none if it knows none.
        pad_token_id: Id of pads; None asks the tokenizer, for its end of text if it has no pad.
        bos_token_id: Id before every row. `"tokenizer"`: what the tokenizer itself puts before a text; None: nothing.
        eos_token_id: Id after every row for training. `"tokenizer"`: the tokenizer's own; None: nothing.
        scope: Which items a token sees, as in `MediaLayout.from_tokens`.
        group_consecutive: As there.
        end_before_media: Write `end_token` before every tag that something precedes, unless the text says it itself.
        end_before_first_media: Also before a row's first tag; OpenFlamingo does not.

    Raises:
        ValueError: If the tokenizer does not know the media tag or a pad, and no id is given.

    Example:
        >>> import torch
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(map(chr, ids))
        >>> ids = {"media_token_id": 300, "end_token_id": 301, "pad_token_id": 0}
        >>> processor = FlamingoProcessor(tokenizer=Letters(), preprocess=lambda image: image, **ids)
        >>> batch = processor([["hi", torch.zeros(3, 8, 8), "cat"], ["no image"]])
        >>> batch.pixels.shape  # items frames 3 height width
        torch.Size([1, 1, 3, 8, 8])
        >>> processor.decode(batch.input_ids[0][batch.attention_mask[0]], skip_special_tokens=False)
        'hi<EOC><image>cat'

    Source:
        The layout of tags: Flamingo (arXiv 2204.14198), section 2.4.
    """

    def __init__(
        self,
        *,
        tokenizer: Any,
        preprocess: Callable[[Any], Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
        media_token: str = TAG,
        end_token: str = END,
        media_token_id: int | Sequence[int] | None = None,
        end_token_id: int | None = None,
        pad_token_id: int | None = None,
        bos_token_id: TokenId = AS_TOKENIZER,
        eos_token_id: TokenId = AS_TOKENIZER,
        scope: Scope = "last",
        group_consecutive: bool = False,
        end_before_media: bool = True,
        end_before_first_media: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.preprocess, self.features = preprocess, features
        self.media_token = media_token
        self.end_token = end_token
        self.scope: Scope = scope
        self.group_consecutive = group_consecutive
        self.end_before_media = end_before_media
        self.end_before_first_media = end_before_first_media
        self.pad_token_id = _pad_id(tokenizer) if pad_token_id is None else pad_token_id
        self.special = SpecialTokens(
            media=_media_ids(tokenizer, media_token) if media_token_id is None else _as_ids(media_token_id),
            end_of_chunk=_known_id(tokenizer, end_token) if end_token_id is None else end_token_id,
            bos=_first_id(tokenizer) if bos_token_id == AS_TOKENIZER else bos_token_id,
            eos=getattr(tokenizer, "eos_token_id", None) if eos_token_id == AS_TOKENIZER else eos_token_id,
            end_of_chunk_text=end_token,
        )

    def __call__(
        self,
        rows: Sequence[Any],
        media: Sequence[Sequence[Any]] | None = None,
        *,
        for_training: bool = False,
        padding_side: Literal["left", "right"] | None = None,
    ) -> FlamingoBatch:
        """Make a batch.

        Args:
            rows: Each a list of strings, images (anything `preprocess` takes) and clips (lists of images) in reading
                order; or an `InterleavedDocument`; or a string with media tags whose items are in `media`.
            media: The images and clips of each row, for rows that are strings.
            for_training: Close rows by `end_token` and the end of text, and make labels; otherwise rows are prompts.
            padding_side: By default right for training, and left for prompts, as `generate` needs.

        Returns:
            The batch; `flamingo(**batch.model_inputs())` runs the model on it.

        Raises:
            ValueError: If a row's tags and items differ in number, an image cannot be read, or a text holds a special
                token; the message names the row.
        """
        if isinstance(rows, str):
            raise ValueError(f"rows is the string {rows[:40]!r}, wanted a list of rows; pass [text]")  # noqa: TRY004
        if media is not None and len(media) != len(rows):
            raise MediaMaskError(
                f"media has {len(media)} rows, rows has {len(rows)}; give every row its list, empty or not"
            )
        examples = []
        for index, row in enumerate(rows):
            try:
                document = self._document(row, None if media is None else media[index])
                examples.append(self._example(document, for_training=for_training))
            except MediaMaskError as error:
                raise MediaMaskError(f"row {index}: {error}") from error
            except ValueError as error:
                raise ValueError(f"row {index}: {error}") from error
        return collate(
            examples,
            pad_id=self.pad_token_id,
            padding_side=padding_side or ("right" if for_training else "left"),
            scope=self.scope,
            group_consecutive=self.group_consecutive,
            variable_size=getattr(self.preprocess, "variable_size", False),
        )

    def decode(self, ids: Int[Tensor, " text"] | Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of a row of ids.

        Args:
            ids: Token ids, those of the tags included; labels' -100 is left out.
            skip_special_tokens: Leave out tags, pads, begin and end.

        Returns:
            The text; each run of text between tags is decoded by itself.
        """
        tokens = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        names = {self.special.end_of_chunk: self.end_token}
        if len(self.special.media_ids) == 1:  # a tag of several tokens is text to the tokenizer
            names[self.special.media_ids[0]] = self.media_token
        outside = {self.pad_token_id, self.special.bos, self.special.eos}
        text = ""
        for special, run in groupby(tokens, key=lambda token: token in names or token in outside or token < 0):
            if not special:
                text += plain_tokenizer(self.tokenizer, skip_special_tokens=skip_special_tokens).decode(list(run))
            elif not skip_special_tokens:
                plain = plain_tokenizer(self.tokenizer)
                text += "".join(names.get(token) or plain.decode([token]) for token in run if token >= 0)
        return text

    def batch_decode(
        self, ids: Int[Tensor, "batch text"] | Iterable[Sequence[int]], *, skip_special_tokens: bool = True
    ) -> list[str]:
        """Text of each row, as `decode` gives it."""
        rows = ids.tolist() if isinstance(ids, Tensor) else ids
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in rows]

    def _document(self, row: Any, media: Sequence[Any] | None) -> InterleavedDocument:
        if isinstance(row, str):
            return InterleavedDocument.from_tagged(row, () if media is None else media, media_token=self.media_token)
        if media:
            raise MediaMaskError(f"media has {len(media)} items, but the row is no string; put its items into the row")
        document = row if isinstance(row, InterleavedDocument) else InterleavedDocument.from_parts(row)
        tags = document.text.count(self.media_token)
        if tags:
            raise MediaMaskError(
                f"the text of the row has {tags} tags {self.media_token!r} beside {len(document.media)} images "
                "or clips in their places; give a string with tags and media=, or leave the tags out"
            )
        return document

    def _example(self, document: InterleavedDocument, *, for_training: bool) -> FlamingoExample:
        tokenized = tokenize_document(
            document,
            tokenizer=plain_tokenizer(self.tokenizer),
            special=self.special,
            end_before_media=self.end_before_media,
            end_before_first_media=self.end_before_first_media,
            end_of_document=for_training,
        )
        stored = self.features
        return make_example(
            tokenized,
            [
                item_pixels(item, preprocess=self.preprocess) if stored is None else item_features(item, stored)
                for item in tokenized.media
            ],
            as_features=stored is not None,
            labels=document_labels(tokenized, special=self.special) if for_training else None,
        )


def _known_id(tokenizer: Any, token: str) -> int | None:
    """Id of a string that is one token of the vocabulary."""
    found = tokenizer.get_vocab().get(token) if is_transformers(tokenizer) else None
    return None if found is None else int(found)


def _media_ids(tokenizer: Any, token: str) -> int:
    found = _known_id(tokenizer, token)
    if found is None:
        raise ValueError(
            f"media_token_id is None and the tokenizer has no token {token!r}; pass the id of its new row, such as "
            "len(tokenizer), or the ids of the tag as text, tokenizer.encode(media_token)"
        )
    return found


def _as_ids(ids: int | Sequence[int]) -> int | tuple[int, ...]:
    return ids if isinstance(ids, int) else tuple(ids)


def _pad_id(tokenizer: Any) -> int:
    for name in ("pad_token_id", "eos_token_id"):
        found = getattr(tokenizer, name, None)
        if found is not None:
            return int(found)
    raise ValueError("pad_token_id is None and the tokenizer has neither a pad nor an end of text; pass pad_token_id=")


def _first_id(tokenizer: Any) -> int | None:
    """Id that the tokenizer itself puts before a text: a language model is used to it."""
    if not is_transformers(tokenizer) or tokenizer.bos_token_id is None:
        return None
    first = list(tokenizer.encode("a"))[:1]
    return int(tokenizer.bos_token_id) if first == [tokenizer.bos_token_id] else None
