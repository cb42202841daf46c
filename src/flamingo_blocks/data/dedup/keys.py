"""Numbers of 64 bits that stand for contents: equal contents have equal numbers."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from flamingo_blocks.data.documents import ImageSegment


def content_key(*parts: bytes) -> int:
    """The first 64 bits of the SHA-256 of some bytes.

    Among a hundred million different contents, two get one number with a chance of 1 in 3,700.

    Args:
        parts: They, one after the other.

    Example:
        >>> hex(content_key(b"cat"))
        '0x77af778b51abd4a3'
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest()[:8], "big")


def text_key(text: str) -> int:
    """The key of a text, half of a surrogate pair included."""
    return content_key(text.encode("utf-8", "surrogatepass"))


def image_key(image: ImageSegment) -> int | None:
    """The key of what an image holds, bytes or a picture of pillow; `None` where it holds neither."""
    data: Any = image.data
    if isinstance(data, bytes | bytearray | memoryview):
        return content_key(bytes(data))
    if hasattr(data, "tobytes") and hasattr(data, "mode"):
        return content_key(f"{data.mode} {data.size} ".encode(), data.tobytes())
    return None


def age_rank(date: Any) -> int:
    """A number that is smaller for a newer date, and largest where no date can be read.

    Args:
        date: A `datetime`, a string as in ISO 8601, or seconds since 1970. Without a time zone it is that of Greenwich.
    """
    try:
        if isinstance(date, str):
            date = datetime.fromisoformat(date)
        if isinstance(date, datetime):
            date = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return -round(float(date) * 1e6) if -1e12 < float(date) < 1e12 else NO_DATE
    except (ValueError, TypeError, OverflowError):
        return NO_DATE


NO_DATE = 2**63 - 1
