"""Pages of the web in, documents out."""

from flamingo_blocks.data.html.decode_page import decode_page
from flamingo_blocks.data.html.extract_page import extract_page
from flamingo_blocks.data.html.guard_page import guard_page
from flamingo_blocks.data.html.image_urls import absolute_url, image_url
from flamingo_blocks.data.html.srcset import SrcsetCandidate, largest_candidate, parse_srcset

__all__ = [
    "SrcsetCandidate",
    "absolute_url",
    "decode_page",
    "extract_page",
    "guard_page",
    "image_url",
    "largest_candidate",
    "parse_srcset",
]
