"""What becomes of a document that a filter looked at."""

from dataclasses import dataclass

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped


@dataclass(frozen=True)
class Filtered:
    """What became of a document.

    Args:
        document: It, or why it was dropped.
        removed: Why each part that was taken out of it was, in order.

    Example:
        >>> Filtered(InterleavedDocument.from_parts(["Text."]), removed=(Dropped("image_small"),)).removed[0].reason
        'image_small'
        >>> Filtered(Dropped("no_images")).document.reason
        'no_images'
    """

    document: InterleavedDocument | Dropped
    removed: tuple[Dropped, ...] = ()
