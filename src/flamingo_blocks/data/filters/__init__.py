"""Filters: each keeps a document as it is, or drops it for a reason that can be counted."""

from flamingo_blocks.data.filters.document_images import DocumentImages
from flamingo_blocks.data.filters.document_text import document_text
from flamingo_blocks.data.filters.filter_chain import DocumentFilter, FilterChain, FilterCounts, Filtered, ItemFilter
from flamingo_blocks.data.filters.gopher_quality import GopherQuality
from flamingo_blocks.data.filters.gopher_repetition import GopherRepetition
from flamingo_blocks.data.filters.image_gate import ImageFacts, ImageGate, SingleColour
from flamingo_blocks.data.filters.language import Language, identify_language
from flamingo_blocks.data.filters.small_image import small_image

__all__ = [
    "DocumentFilter",
    "DocumentImages",
    "FilterChain",
    "FilterCounts",
    "Filtered",
    "GopherQuality",
    "GopherRepetition",
    "ImageFacts",
    "ImageGate",
    "ItemFilter",
    "Language",
    "SingleColour",
    "document_text",
    "identify_language",
    "small_image",
]
