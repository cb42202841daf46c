"""Filters: each keeps a document, all of it or a part, or drops it, for reasons that can be counted."""

from flamingo_blocks.data.filtered import Filtered
from flamingo_blocks.data.filters.document_images import DocumentImages
from flamingo_blocks.data.filters.document_text import document_text
from flamingo_blocks.data.filters.explicit_content import ExplicitContent, ImageJudge
from flamingo_blocks.data.filters.filter_chain import DocumentFilter, FilterChain, FilterCounts, ItemFilter
from flamingo_blocks.data.filters.gopher_quality import GopherQuality
from flamingo_blocks.data.filters.gopher_repetition import GopherRepetition
from flamingo_blocks.data.filters.image_gate import ImageFacts, ImageGate, SingleColour
from flamingo_blocks.data.filters.language import Language, identify_language
from flamingo_blocks.data.filters.page_images import DeclaredSize, UrlWords
from flamingo_blocks.data.filters.presets import OBELICS_DOCUMENT, OBELICS_PARAGRAPH, m3w_preset, obelics_preset
from flamingo_blocks.data.filters.small_image import small_image
from flamingo_blocks.data.filters.text_limits import LimitedText, TextLimits, WordLists

__all__ = [
    "OBELICS_DOCUMENT",
    "OBELICS_PARAGRAPH",
    "DeclaredSize",
    "DocumentFilter",
    "DocumentImages",
    "ExplicitContent",
    "FilterChain",
    "FilterCounts",
    "Filtered",
    "GopherQuality",
    "GopherRepetition",
    "ImageFacts",
    "ImageGate",
    "ImageJudge",
    "ItemFilter",
    "Language",
    "LimitedText",
    "SingleColour",
    "TextLimits",
    "UrlWords",
    "WordLists",
    "document_text",
    "identify_language",
    "m3w_preset",
    "obelics_preset",
    "small_image",
]
