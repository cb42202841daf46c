"""What tells whether two documents are the same."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from flamingo_blocks.data.documents import ClipSegment, InterleavedDocument, TextSegment


def document_hash(document: InterleavedDocument) -> int:
    """A number of 64 bits that is the same for documents of the same text and the same images in the same order.

    Args:
        document: It is merged first; metadata and descriptions do not count. An image or clip is its data, or its
            address where it has none.

    Example:
        >>> one = InterleavedDocument.from_parts(["a ", "cat"], metadata={"url": "https://ex.com/1"})
        >>> document_hash(one) == document_hash(InterleavedDocument.from_parts(["a cat"]))
        True
    """
    digest = hashlib.sha256()
    for part in _parts(document):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return int.from_bytes(digest.digest()[:8], "big")


def _parts(document: InterleavedDocument) -> Iterator[bytes]:
    for segment in document.merged().segments:
        if isinstance(segment, TextSegment):
            yield b"text"
            yield segment.text.encode("utf-8", "surrogatepass")
            continue
        yield b"clip" if isinstance(segment, ClipSegment) else b"image"
        if segment.data is None:
            yield b"address"
            yield (segment.url or "").encode("utf-8", "surrogatepass")
        else:
            yield from _data(segment.data)


def _data(data: Any) -> Iterator[bytes]:
    """The bytes of a file, of a picture or of several, with what they are."""
    if isinstance(data, bytes | bytearray | memoryview):
        yield bytes(data)
    elif isinstance(data, list | tuple):
        yield f"{len(data)} frames".encode()
        for frame in data:
            yield from _data(frame)
    elif isinstance(data, torch.Tensor):
        yield f"{data.dtype} {list(data.shape)}".encode()
        yield bytes(data.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist())
    elif hasattr(data, "tobytes"):  # pictures of pillow, and arrays
        yield f"{getattr(data, 'mode', getattr(data, 'dtype', ''))} {getattr(data, 'size', '')}".encode()
        yield f"{getattr(data, 'shape', '')}".encode()
        yield data.tobytes()
    else:
        yield f"{type(data).__name__} {data}".encode("utf-8", "surrogatepass")
