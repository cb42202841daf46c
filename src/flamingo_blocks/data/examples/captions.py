"""Pairs of an image or clip and its caption become training examples, as in the paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.data.documents import InterleavedDocument, TextSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.examples.augment_images import AugmentImages
from flamingo_blocks.data.examples.augment_text import AugmentText
from flamingo_blocks.data.examples.keyed_draws import Key, KeyedDraws
from flamingo_blocks.data.examples.make_example import make_example
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.data.plain_text import plain_tokenizer
from flamingo_blocks.data.tokenize import SpecialTokens, TokenizedDocument, document_labels, tokenize_document


class CaptionExamples:
    """Make training examples of images or clips with captions: `<BOS><image>caption<EOC><EOS>`.

    Use it for pairs; for pages take `InterleavedExamples`. Everything that is random is decided by the key.

    Args:
        tokenizer: A transformers tokenizer, or any object with `encode(text)` and `decode(ids)` that add nothing.
        special: Ids of the tags; `processor.special` of a `FlamingoProcessor`.
        preprocess: Turns one image into pixels: `tower.preprocess`.
        features: Features computed before, by name, in place of `preprocess`: a `vision.FeatureStore`.
        clip_images: As in `InterleavedExamples`.
        length: Most tokens of an example, 32 or 64 in the paper. A longer caption is cut; `<EOC>` and `<EOS>` stay.
        caption_space: Chance of one space before the caption. Tokenizers write a word in another token behind a space,
            and a prompt may have either.
        augment_text: Small changes of the caption; None for none.
        augment_images: Random flips and colours; None for none.
        source: Name of the data set, which stands in the examples.

    Raises:
        ValueError: If `length` holds no caption, `caption_space` is no chance, or `augment_images` is given for a
            `preprocess` that does not take it.

    Example:
        >>> import torch
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(map(chr, ids))
        >>> make = CaptionExamples(
        ...     tokenizer=Letters(),
        ...     special=SpecialTokens(media=901, end_of_chunk=902, bos=903, eos=904),
        ...     preprocess=lambda image: image,
        ...     length=8,
        ...     caption_space=0.0,
        ... )
        >>> make(InterleavedDocument.from_parts([torch.zeros(3, 8, 8), "a cat"]), key=0).input_ids
        (903, 901, 97, 32, 99, 97, 902, 904)

    Source:
        Flamingo (arXiv 2204.14198), sections 2.4 and A.3.3. There all tokens see the image; here `<BOS>` comes before
        its tag and sees nothing.
    """

    reasons = ("no_text", "no_media", "many_media", "special_token", *ItemReader.reasons)

    def __init__(
        self,
        *,
        tokenizer: Any,
        special: SpecialTokens,
        preprocess: Callable[..., Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
        clip_images: Callable[..., Sequence[Any] | Dropped] | None = None,
        length: int = 32,
        caption_space: float = 0.5,
        augment_text: AugmentText | None = None,
        augment_images: AugmentImages | None = None,
        source: str | None = None,
    ) -> None:
        if not 0.0 <= caption_space <= 1.0:
            raise ValueError(f"caption_space is {caption_space}, wanted a chance from 0 to 1")
        others = (special.bos, special.end_of_chunk, special.eos)
        least = len(special.media_ids) + sum(token is not None for token in others) + 1
        if length < least:
            raise ValueError(f"length is {length}, wanted {least} at least: the tags and one token of the caption")
        self.tokenizer = plain_tokenizer(tokenizer)
        self.special = special
        self.reader = ItemReader(
            preprocess=preprocess, features=features, clip_images=clip_images, augment=augment_images
        )
        self.length = length
        self.caption_space = caption_space
        self.augment_text = augment_text
        self.source = source

    def __call__(self, document: InterleavedDocument, *, key: Key) -> FlamingoExample | Dropped:
        """Make the example of a pair, or say why there is none.

        Args:
            document: One image or clip, and its caption before or behind it.
            key: What decides everything random: the seed, the epoch and the sample's id, say.

        Returns:
            The example, or one of `reasons`.
        """
        draws = KeyedDraws(key)
        if len(document.media) != 1:
            reason = "many_media" if document.media else "no_media"
            return Dropped(reason, f"{len(document.media)} images and clips, wanted one")
        caption = document.text.strip()
        if self.augment_text is not None:
            caption = self.augment_text.text(caption, draws)
        if not caption:
            return Dropped("no_text", "the caption is empty")
        if draws.happens(self.caption_space, "space"):
            caption = f" {caption}"
        pair = replace(document, segments=(*document.media, TextSegment(caption)))
        try:
            text = tokenize_document(pair, tokenizer=self.tokenizer, special=self.special, end_before_first_media=False)
        except ValueError as error:
            return Dropped("special_token", str(error))
        items = self.reader.read_all(text.media, draws)
        if isinstance(items, Dropped):
            return items
        text = cut_caption(text, self.length)
        return make_example(
            text,
            items,
            as_features=self.reader.features is not None,
            labels=document_labels(text, special=self.special),
            direction="previous",
            source=self.source,
        )


def cut_caption(tokenized: TokenizedDocument, length: int) -> TokenizedDocument:
    """Leave out what is too much before the tokens that close a document.

    Args:
        tokenized: A document that ends in text.
        length: Most tokens.

    Example:
        >>> cut_caption(TokenizedDocument((1, 2, 3, 8, 9), (), (), frozenset({3, 4})), 4).ids
        (1, 2, 8, 9)
    """
    total = len(tokenized.ids)
    if total <= length:
        return tokenized
    closing = 0
    while total - 1 - closing in tokenized.inserted:
        closing += 1
    kept = length - closing
    inserted = {place for place in tokenized.inserted if place < kept} | set(range(kept, length))
    ids = tokenized.ids[:kept] + tokenized.ids[total - closing :]
    return replace(tokenized, ids=ids, inserted=frozenset(inserted))
