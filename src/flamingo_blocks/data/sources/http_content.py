"""The body of an answer without what it was wrapped in, and never more of it than was asked for."""

import io
import zlib
from typing import Any

from flamingo_blocks._optional import require

_PIECE = 65_536
MAX_STREAMS = 1000


class TooManyBytes(Exception):  # noqa: N818 - it becomes a reason
    """A body larger than its cap."""


def decode_content(body: bytes, *, transfer: str, encoding: str, max_bytes: int) -> bytes:
    r"""Undo `Transfer-Encoding: chunked` and `Content-Encoding`.

    Archives keep answers as they came, though some unwrap the body and leave the header: what is not wrapped is given
    as it is.

    Args:
        body: As it stands in an archive.
        transfer: The header `Transfer-Encoding`.
        encoding: The header `Content-Encoding`.
        max_bytes: Cap on what comes out.

    Raises:
        TooManyBytes: If more would come out.
        OSError: If the body is damaged, or wrapped in something unknown.

    Example:
        >>> decode_content(b"3\r\ncat\r\n0\r\n\r\n", transfer="chunked", encoding="", max_bytes=10)
        b'cat'
    """
    if "chunked" in transfer.lower():
        try:
            body = _read(_stream("ChunkedReader", body), max_bytes)
        except OSError:
            if body[:1].isalnum() and b"\r\n" in body[:10]:  # the begin of a chunk
                raise
    for name in reversed([name.strip() for name in encoding.lower().split(",") if name.strip()]):
        body = _decoded(body, name, max_bytes)
    if len(body) > max_bytes:
        raise TooManyBytes
    return body


def _decoded(body: bytes, name: str, max_bytes: int) -> bytes:
    if name == "identity" or not body:
        return body
    if name in ("gzip", "x-gzip"):
        return _inflate(body, 31, max_bytes) if body.startswith(b"\x1f\x8b") else body
    if name == "deflate":  # some servers leave the header of zlib out
        return _inflate(body, 15 if _is_zlib(body) else -15, max_bytes)
    if name == "zstd":
        return _read(_stream("ZstdReader", body), max_bytes) if body.startswith(b"\x28\xb5\x2f\xfd") else body
    if name == "br":
        return _read(_stream("BrotliReader", body), max_bytes)
    raise OSError(f"content encoding {name!r} is unknown")


def _is_zlib(body: bytes) -> bool:
    return body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    """One or several streams; what comes out of a stream that was cut off is an error."""
    found = b""
    number = 0
    while body:
        number += 1
        if number > MAX_STREAMS:  # each costs a copy of all that is left
            raise OSError(f"more than {MAX_STREAMS} streams in one")
        stream = zlib.decompressobj(window)
        try:
            found += stream.decompress(body, max_bytes + 1 - len(found))
        except zlib.error as error:
            raise OSError(str(error)) from error
        if len(found) > max_bytes:
            raise TooManyBytes
        if not stream.eof:
            raise OSError("the content was cut off")
        body = stream.unused_data if stream.unused_data.startswith(b"\x1f\x8b") and window == 31 else b""
    return found


def _stream(reader: str, body: bytes) -> Any:
    return getattr(require("fastwarc.stream_io", used_by="read_warc", extra="data"), reader)(io.BytesIO(body))


def _read(stream: Any, max_bytes: int) -> bytes:
    found = bytearray()
    while piece := stream.read(_PIECE):
        found += piece
        if len(found) > max_bytes:
            raise TooManyBytes
    return bytes(found)
