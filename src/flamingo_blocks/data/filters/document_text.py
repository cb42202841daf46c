"""The text of a document as filters look at it."""

from flamingo_blocks.data.documents import InterleavedDocument, TextSegment


def document_text(document: InterleavedDocument) -> str:
    r"""The text of a document as people read it: an image ends a paragraph.

    Args:
        document: Any.

    Example:
        >>> document_text(InterleavedDocument.from_parts(["one", b"...", "two"]))
        'one\n\ntwo'
    """
    return "\n\n".join(segment.text for segment in document.segments if isinstance(segment, TextSegment))
