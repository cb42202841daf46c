"""Documents become training examples: windows of their text, captions, augmentation, packing."""

from flamingo_blocks.data.examples.augment_images import AugmentImages, ImageChange
from flamingo_blocks.data.examples.augment_text import AugmentText
from flamingo_blocks.data.examples.captions import CaptionExamples
from flamingo_blocks.data.examples.interleaved import InterleavedExamples
from flamingo_blocks.data.examples.keyed_draws import Key, KeyedDraws
from flamingo_blocks.data.examples.pack_examples import pack_examples
from flamingo_blocks.data.examples.windows import cut_document, draw_window

__all__ = [
    "AugmentImages",
    "AugmentText",
    "CaptionExamples",
    "ImageChange",
    "InterleavedExamples",
    "Key",
    "KeyedDraws",
    "cut_document",
    "draw_window",
    "pack_examples",
]
