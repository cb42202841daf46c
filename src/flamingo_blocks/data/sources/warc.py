"""Pages in archives of the web, such as Common Crawl's."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.page import MAX_PAGE_BYTES, Page
from flamingo_blocks.data.sources.robots import ROBOTS_TAGS, robots_refusal
from flamingo_blocks.data.sources.warc_records import WarcResponse, read_records

WARC_SUFFIXES = (".warc", ".warc.gz", ".warc.zst")
HTML_TYPES = ("text/html", "application/xhtml+xml")


def read_warc(
    path: str | Path, *, max_bytes: int = MAX_PAGE_BYTES, robots: Collection[str] = ROBOTS_TAGS
) -> Iterator[Page | Dropped]:
    r"""Read the pages of an archive in the WARC format, plain or compressed by gzip or zstd.

    Pages are answers that call themselves HTML. Images, requests and the like are passed over; they are no pages.
    A page's `metadata` says where it was, under the names that OBELICS has: `warc_filename`, `warc_record_offset` and
    `warc_record_length`, in bytes of the file.

    Args:
        path: The archive.
        max_bytes: Cap on a page, unpacked. A file of a few kilobytes can hold more than memory does.
        robots: Directives of the header `X-Robots-Tag` that are obeyed; `()` obeys none.

    Yields:
        A page, or why it is not kept: `page_bytes`, `page_unreadable`, `page_status` for an answer that is no page,
        `page_robots`. An archive that was cut off gives what is whole, and `damaged_file` at last.

    Raises:
        FileNotFoundError: If there is no such file.
        MissingDependencyError: If `FastWARC` is missing.

    Example:
        >>> import gzip, tempfile
        >>> answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>Tom"
        >>> head = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://ex.com/\r\n"
        >>> head += f"Content-Type: application/http\r\nContent-Length: {len(answer)}\r\n\r\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "cats.warc.gz")
        ...     _ = file.write_bytes(gzip.compress(head.encode() + answer + b"\r\n\r\n"))
        ...     [page] = read_warc(file)
        >>> page.url, page.content, page.metadata["warc_record_offset"]
        ('https://ex.com/', b'<p>Tom', 0)

    Source:
        WARC 1.1 (ISO 28500:2017).
    """
    path = Path(path)
    with path.open("rb") as file:
        waiting: tuple[int, WarcResponse] | None = None  # until the next record tells where it ends
        for offset, record in read_records(file, max_bytes=max_bytes):
            if waiting is not None:
                yield _page(*waiting, offset, path, robots)
            waiting = None
            if isinstance(record, Dropped):
                yield Dropped(record.reason, f"{path}: {record.detail}")
            elif record is not None and record.media_type in HTML_TYPES:
                waiting = offset, record
        if waiting is not None:
            yield _page(*waiting, path.stat().st_size, path, robots)


def _page(start: int, found: WarcResponse, end: int, path: Path, robots: Collection[str]) -> Page | Dropped:
    told = f"{found.url[:200]} at {start} in {path.name}"
    if isinstance(found.content, Dropped):
        return Dropped(f"page_{found.content.reason}", f"{told}: {found.content.detail}")
    if found.status != 200:
        return Dropped("page_status", f"{told}: {found.status}, wanted 200")
    if (directive := robots_refusal(found.robots, refused=robots)) is not None:
        return Dropped("page_robots", f"{told}: {directive}")
    metadata: dict[str, Any] = {
        "warc_filename": path.name,
        "warc_record_offset": start,
        "warc_record_length": end - start,
    }
    return Page(found.url, found.content, found.content_type, metadata)
