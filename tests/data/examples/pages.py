"""Pages for the tests of examples: text of single letters, and images that tell their own number."""

import io

import torch
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import (
    ClipSegment,
    ImageSegment,
    InterleavedDocument,
    SpecialTokens,
    TextSegment,
    tokenize_document,
)

BOS, EOS, EOC, TAG = 256, 257, 258, 259
WIDE_TAG = (60, 105, 62)  # <i> in three tokens, as the paper's `<image>` is


class Letters:
    """One id a letter: its code point, up to 255."""

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(chr(token) for token in ids)


LETTERS = Letters()
PAPER = SpecialTokens(media=TAG, end_of_chunk=EOC, bos=BOS, eos=EOS)
WIDE = SpecialTokens(media=WIDE_TAG, end_of_chunk=EOC, bos=BOS, eos=EOS)

letters = st.text(st.sampled_from("abc. \n"), max_size=6)
specials = st.sampled_from([PAPER, WIDE, SpecialTokens(media=TAG), SpecialTokens(media=WIDE_TAG, end_of_chunk=EOC)])


def picture(number):
    """An image whose every value is its number."""
    return torch.full((3, 2, 2), number, dtype=torch.uint8)


def pixels_of(image):
    """A `preprocess` that keeps the number."""
    return image.float()


def numbers_of(items):
    """Which images the items of an example are."""
    return [int(item.flatten()[0]) for item in items or ()]


# Arguments, not documents: while tests run their annotations are checked, which draws random numbers.
parts = st.lists(letters | st.sampled_from(["<image>", "<clip>"]), max_size=8)


def page_of(parts):
    """A document of texts, images and clips; image k of it is `picture(k)`."""
    segments, number = [], 0
    for part in parts:
        if part == "<image>":
            segments.append(ImageSegment(data=picture(number)))
        elif part == "<clip>":
            segments.append(ClipSegment(data=(picture(number), picture(number))))
        else:
            segments.append(TextSegment(part))
        number += part in {"<image>", "<clip>"}
    return InterleavedDocument(tuple(segments))


def tokens_of(parts, special):
    """Such a document, tokenised."""
    return tokenize_document(page_of(parts), tokenizer=LETTERS, special=special)


def previous_tags(tokenized):
    """Which tag is the last at or before each token, -1 for none: phi of the paper, in a loop."""
    return [sum(tag <= place for tag in tokenized.tags) - 1 for place in range(len(tokenized.ids))]


def next_tags(tokenized):
    """Which tag is the first at or behind each token, -1 for none."""
    return [
        next((number for number, tag in enumerate(tokenized.tags) if tag >= place), -1)
        for place in range(len(tokenized.ids))
    ]


def file_of(*, size=(40, 30), colour="red", kind="PNG"):
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()
