"""A page as it was fetched, before anything is read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_PAGE_BYTES = 20_000_000  # the five million characters that are parsed at most, of four bytes each
PAGE_REASONS = ("page_bytes", "page_unreadable", "page_status", "page_robots", "outside_folder", "damaged_file")


@dataclass(frozen=True)
class Page:
    """A page of the web as bytes, with its address.

    Args:
        url: Its address, from which its links start.
        content: The bytes, without what they were wrapped in on their way.
        content_type: Header it was served with, such as `text/html; charset=koi8-r`, where there was one.
        metadata: What else is known of it, such as its place in an archive.

    Example:
        >>> page = Page("https://ex.com/", b"<p>Cats")
        >>> page.content_type is None
        True
    """

    url: str
    content: bytes
    content_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
