"""Documents in, batches out. Knows text, media and layouts, and no model."""

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.collate import FlamingoExample, collate
from flamingo_blocks.data.documents import ClipSegment, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.tokenize import (
    SpecialTokens,
    TextTokenizer,
    TokenizedDocument,
    detokenize_document,
    document_labels,
    tokenize_document,
)

__all__ = [
    "ClipSegment",
    "Dropped",
    "FlamingoBatch",
    "FlamingoExample",
    "ImageSegment",
    "InterleavedDocument",
    "SpecialTokens",
    "TextSegment",
    "TextTokenizer",
    "TokenizedDocument",
    "collate",
    "detokenize_document",
    "document_labels",
    "tokenize_document",
]
