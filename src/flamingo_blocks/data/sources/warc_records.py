"""Answers in an archive of the web, each with its place in the file."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.http_content import TooManyBytes, decode_content

_MEMBERS = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class WarcResponse:
    """An answer to a request, as it was archived.

    Args:
        url: What was asked for.
        status: Code of the answer; `None` where it is not in the form of HTTP.
        content_type: Header of that name.
        media_type: The same without parameters, or what the archive found out by a look at the bytes.
        robots: Headers `X-Robots-Tag`.
        content: The body, unwrapped; or why it cannot be had, `"bytes"` or `"unreadable"`.
    """

    url: str
    status: int | None
    content_type: str | None
    media_type: str
    robots: tuple[str, ...]
    content: bytes | Dropped


def read_records(file: IO[bytes], *, max_bytes: int) -> Iterator[tuple[int, WarcResponse | Dropped | None]]:
    """Read an archive from where a file stands.

    Args:
        file: The archive; each record of a compressed one is a member of its own, as the standard has it.
        max_bytes: Cap on the body of an answer, unwrapped.

    Yields:
        For each record its offset; and the answer, `None` for a record of another kind, or at last
        `Dropped("damaged_file")`.
    """
    warc = require("fastwarc.warc", used_by="read_warc", extra="data")
    offset = start = file.tell()
    try:
        # Extensions of the package for other file systems stay out.
        for record in warc.ArchiveIterator(file, parse_http=False, fsspec_args=False):
            offset = int(record.stream_pos)
            claimed = _claimed_length(record)
            if claimed is None:
                yield offset, Dropped("damaged_file", f"a record at {offset} does not tell its length")
                return
            if record.record_type != warc.WarcRecordType.response or not record.is_http:
                yield offset, None
                continue
            if claimed <= max_bytes + _HEADERS:
                record.freeze()  # reads it all; a parser that fails would else lose the place in the file
                if record.content_length < claimed:
                    yield offset, Dropped("damaged_file", f"ends inside of the record at {offset}")
                    return
            yield offset, _parsed(record, max_bytes)
        if _is_cut_off(file, offset, start):
            yield offset, Dropped("damaged_file", f"ends inside of what is compressed behind {offset}")
    except (OSError, zlib.error) as error:
        yield offset, Dropped("damaged_file", " ".join(str(error).split()))


def _is_cut_off(file: IO[bytes], offset: int, start: int) -> bool:
    """Whether the last members of a file that gzip compressed have no end, at which the package just stops."""
    file.seek(start)
    if not file.read(2).startswith(_MEMBERS[0]):
        return False
    file.seek(offset)
    data = file.read(_PIECE)
    while data:
        member = zlib.decompressobj(31)
        while data and not member.eof:
            member.decompress(data, _PIECE)
            data = member.unconsumed_tail or member.unused_data or file.read(_PIECE)
        if not member.eof:
            return True
        data = data if data[:2] in (_MEMBERS[0], _MEMBERS[0][:1]) else b""
    return False


_PIECE = 65_536
_HEADERS = 65_536  # bytes that the head of an answer may have


def _claimed_length(record: Any) -> int | None:
    length = record.headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() and len(length) < 16 else None


def _parsed(record: Any, max_bytes: int) -> WarcResponse:
    """Parse the head of an answer, and its body where the record is frozen."""
    content: bytes | Dropped = Dropped("bytes", f"more than {max_bytes} bytes")
    try:
        record.parse_http()
        if record.is_frozen:
            headers = record.http_headers
            content = decode_content(
                record.reader.read(), transfer=headers.get("Transfer-Encoding") or "",
                encoding=headers.get("Content-Encoding") or "", max_bytes=max_bytes,
            )  # fmt: skip
    except TooManyBytes:
        pass  # as is said already
    except OSError as error:
        content = Dropped("unreadable", " ".join(str(error).split()))
    return _response(record, content)


def _response(record: Any, content: bytes | Dropped) -> WarcResponse:
    headers = record.http_headers if record.is_http_parsed else None
    content_type = headers.get("Content-Type") if headers is not None else None
    told = content_type or record.headers.get("WARC-Identified-Payload-Type") or ""
    return WarcResponse(
        url=(record.headers.get("WARC-Target-URI") or "").strip("<> "),
        status=headers.status_code if headers is not None else None,
        content_type=content_type,
        media_type=told.partition(";")[0].strip().lower(),
        robots=headers.get_multiple("X-Robots-Tag") if headers is not None else (),
        content=content,
    )


def is_member_at(path: Path, offset: int) -> bool:
    """Whether a record can be read without those before it: in a compressed file it must be a member of its own.

    Args:
        path: The archive.
        offset: Of the record.
    """
    with path.open("rb") as file:
        if not file.read(4).startswith(_MEMBERS):
            return True
        file.seek(offset)
        return file.read(4).startswith(_MEMBERS)
