"""Pages become training examples, as in the paper."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.examples.augment_images import AugmentImages
from flamingo_blocks.data.examples.augment_text import AugmentText
from flamingo_blocks.data.examples.keyed_draws import Key, KeyedDraws
from flamingo_blocks.data.examples.make_example import make_example
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.data.examples.windows import check_window, cut_document, draw_window
from flamingo_blocks.data.plain_text import plain_tokenizer
from flamingo_blocks.data.tokenize import SpecialTokens, TokenizedDocument, document_labels, tokenize_document


class InterleavedExamples:
    """Make training examples of interleaved documents: a random window of the text, and the items that stand in it.

    Hand it to a loader, or call it in a loop; `collate` makes a batch of what it gives. Everything that is random is
    decided by the key, so an example is the same whichever worker makes it.

    Args:
        tokenizer: A transformers tokenizer, or any object with `encode(text)` and `decode(ids)` that add nothing.
        special: Ids of the tags; `processor.special` of a `FlamingoProcessor`.
        preprocess: Turns one image into pixels: `tower.preprocess`. Only the images in the window are read.
        features: Features computed before, by name, in place of `preprocess`: a `vision.FeatureStore`.
        clip_images: Gives the frames of a `ClipSegment` whose data are no frames yet, or a `Dropped`. If it takes
            `place`, it gets a number from [0, 1) drawn for the clip, to say which part of it.
        length: Most tokens of an example.
        max_media: Most items of an example: the first ones in the window, which ends before the tag of the next.
        p_next: Chance that the text of a document sees the item that follows it, in place of the one before.
        needs_media: Choose among the windows that hold an item; documents without any are dropped.
        end_before_first_media: Write `<EOC>` before the first tag too, as in `tokenize_document`.
        mask_outside_chunks: Take no loss before the first tag and between an `<EOC>` and the next tag: OpenFlamingo's
            rule. It is applied to the document, before the window is cut.
        augment_text: Small changes of the text; None for none.
        augment_images: Random flips and colours; None for none.
        source: Name of the data set, which stands in the examples.

    Raises:
        ValueError: If `augment_images` is given for a `preprocess` that does not take it, or an argument has a value
            that no window has.

    Example:
        >>> import torch
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(map(chr, ids))
        >>> make = InterleavedExamples(
        ...     tokenizer=Letters(),
        ...     special=SpecialTokens(media=901, end_of_chunk=902),
        ...     preprocess=lambda image: image,
        ...     length=6,
        ... )
        >>> document = InterleavedDocument.from_parts(["a cat", torch.zeros(3, 8, 8), "sat"])
        >>> example = make(document, key=(0, 0, "page 17"))
        >>> len(example.input_ids), example.num_items, example.direction
        (6, 1, 'previous')

    Source:
        Flamingo (arXiv 2204.14198), sections 2.4 and A.3.2.
    """

    reasons = ("no_text", "no_media", "special_token", *ItemReader.reasons)

    def __init__(
        self,
        *,
        tokenizer: Any,
        special: SpecialTokens,
        preprocess: Callable[..., Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
        clip_images: Callable[..., Sequence[Any] | Dropped] | None = None,
        length: int = 256,
        max_media: int | None = 5,
        p_next: float = 0.5,
        needs_media: bool = False,
        end_before_first_media: bool = True,
        mask_outside_chunks: bool = False,
        augment_text: AugmentText | None = None,
        augment_images: AugmentImages | None = None,
        source: str | None = None,
    ) -> None:
        if not 0.0 <= p_next <= 1.0:
            raise ValueError(f"p_next is {p_next}, wanted a chance from 0 to 1")
        check_window(length=length, max_media=max_media, special=special)
        self.tokenizer = plain_tokenizer(tokenizer)
        self.special = special
        self.reader = ItemReader(
            preprocess=preprocess, features=features, clip_images=clip_images, augment=augment_images
        )
        self.length, self.max_media = length, max_media
        self.p_next = p_next
        self.needs_media = needs_media
        self.end_before_first_media = end_before_first_media
        self.mask_outside_chunks = mask_outside_chunks
        self.augment_text = augment_text
        self.source = source

    def __call__(self, document: InterleavedDocument, *, key: Key) -> FlamingoExample | Dropped:
        """Make one example of a document, or say why there is none.

        Args:
            document: A page. Its images are fetched, or named as `features` names them.
            key: What decides everything random: the seed, the epoch and the sample's id, say.

        Returns:
            The example, or one of `reasons`.
        """
        draws, document = KeyedDraws(key), document.merged()
        if not document.segments:
            return Dropped("no_text", "the document is empty")
        if self.needs_media and not document.media:
            return Dropped("no_media", "the document has neither image nor clip")
        whole = self._tokenize(document, draws)
        if isinstance(whole, Dropped):
            return whole
        window = draw_window(
            whole,
            length=self.length,
            special=self.special,
            draw=draws.uniform("window"),
            max_media=self.max_media,
            needs_media=self.needs_media,
        )
        text = cut_document(whole, window, special=self.special)
        labels = document_labels(
            whole,
            special=self.special,
            mask_between_chunks=self.mask_outside_chunks,
            mask_before_first_media=self.mask_outside_chunks,
        )
        items = self.reader.read_all(text.media, draws)
        if isinstance(items, Dropped):
            return items
        return make_example(
            text,
            items,
            as_features=self.reader.features is not None,
            labels=labels[window.start : window.stop],
            direction="next" if draws.happens(self.p_next, "direction") else "previous",
            source=self.source,
        )

    def _tokenize(self, document: InterleavedDocument, draws: KeyedDraws) -> TokenizedDocument | Dropped:
        if self.augment_text is not None:
            document = self.augment_text.document(document, draws)
        try:
            return tokenize_document(
                document,
                tokenizer=self.tokenizer,
                special=self.special,
                end_before_first_media=self.end_before_first_media,
            )
        except ValueError as error:
            return Dropped("special_token", str(error))
