"""Shots and a query made one prompt."""

from collections.abc import Iterable

from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.data.documents import TAG

REMOVED = "removed_tags"  # among the metadata of a prompt: how many strings that read as tags its texts held


def join(documents: Iterable[InterleavedDocument]) -> InterleavedDocument:
    """One prompt of its parts, merged; what was counted about the parts is summed.

    Args:
        documents: Shots, first to last, and the query.

    Example:
        >>> join([InterleavedDocument.from_parts(["a"]), InterleavedDocument.from_parts(["b"])]).segments
        (TextSegment(text='ab'),)
    """
    parts = list(documents)
    removed = sum(part.metadata.get(REMOVED, 0) for part in parts)
    segments = tuple(segment for part in parts for segment in part.segments)
    return InterleavedDocument(segments, {REMOVED: removed} if removed else {}).merged()


def prompt_text(document: InterleavedDocument) -> str:
    """A prompt as text, with `<image>` for each image or clip.

    Args:
        document: Any.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> prompt_text(InterleavedDocument.from_parts([ImageSegment(url="cat.jpg"), "Output:"]))
        '<image>Output:'
    """
    return "".join(part.text if isinstance(part, TextSegment) else TAG for part in document.segments)
