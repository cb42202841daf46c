"""Images by their address, from archives of the web."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.fetcher import MAX_IMAGE_BYTES
from flamingo_blocks.data.sources.robots import ROBOTS_TAGS, robots_refusal
from flamingo_blocks.data.sources.warc_records import WarcResponse, is_member_at, read_records


class WarcFetcher:
    r"""Take images out of archives in the WARC format, each read at its place when it is asked for.

    The archives are read once to find the answers that call themselves images; of each, the address and the place are
    remembered, some 200 bytes. Of several answers at an address the first that is whole is taken. The fetcher can be
    pickled, so that workers need not read the archives again.

    Args:
        paths: An archive or several, plain or compressed by gzip or zstd.
        max_bytes: Cap on an image.
        robots: Directives of the header `X-Robots-Tag` that are obeyed; `()` obeys none.

    Attributes:
        dropped: Answers that were not taken into the index, by reason.

    Raises:
        FileNotFoundError: If an archive does not exist.
        ValueError: If an archive is compressed as a whole, so that no record can be read alone.
        MissingDependencyError: If `FastWARC` is missing.

    Example:
        >>> import tempfile
        >>> answer = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n..."
        >>> head = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://ex.com/tom.png\r\n"
        >>> head += f"Content-Type: application/http\r\nContent-Length: {len(answer)}\r\n\r\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cats.warc").write_bytes((head + answer + "\r\n\r\n").encode())
        ...     fetcher = WarcFetcher([Path(folder, "cats.warc")])
        ...     print(fetcher.fetch("https://ex.com/tom.png"), fetcher.fetch("https://ex.com/mia.png").reason)
        b'...' fetch_missing
    """

    reasons = ("fetch_missing", "fetch_bytes", "fetch_failed")

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        max_bytes: int = MAX_IMAGE_BYTES,
        robots: Collection[str] = ROBOTS_TAGS,
    ) -> None:
        if isinstance(paths, str | Path):
            paths = [paths]
        self.paths, self.max_bytes = tuple(Path(path) for path in paths), max_bytes
        self.dropped: Counter[str] = Counter()
        self._places: dict[str, tuple[int, int]] = {}
        for number, path in enumerate(self.paths):
            self._add(number, path, frozenset(robots))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._places)

    def fetch(self, url: str) -> bytes | Dropped:
        """The bytes of an image, or why there are none.

        Args:
            url: Its address, as it was archived.
        """
        if url not in self._places:
            return Dropped("fetch_missing", f"{url[:200]} is in none of {len(self.paths)} archives")
        number, offset = self._places[url]
        path = self.paths[number]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                _, found = next(read_records(file, max_bytes=self.max_bytes))
        except (OSError, StopIteration) as error:
            return Dropped("fetch_failed", f"{path}: {str(error) or 'ends before the record'}")
        if not isinstance(found, WarcResponse) or found.url != url or isinstance(found.content, Dropped):
            return Dropped("fetch_failed", f"{path} has another record at {offset} than when it was read first")
        return found.content

    def _add(self, number: int, path: Path, robots: Collection[str]) -> None:
        with path.open("rb") as file:
            for offset, found in read_records(file, max_bytes=self.max_bytes):
                if isinstance(found, Dropped):
                    self.dropped[found.reason] += 1
                elif found is not None and found.media_type.startswith("image/") and found.url not in self._places:
                    if (reason := _refusal(found, robots)) is not None:
                        self.dropped[reason] += 1
                    elif not is_member_at(path, offset):
                        raise ValueError(f"{path} is compressed as a whole; wanted each record compressed by itself")
                    else:
                        self._places[found.url] = (number, offset)


def _refusal(found: WarcResponse, robots: Collection[str]) -> str | None:
    if isinstance(found.content, Dropped):
        return "fetch_bytes" if found.content.reason == "bytes" else "fetch_failed"
    if found.status != 200:
        return "fetch_status"
    return "fetch_robots" if robots_refusal(found.robots, refused=robots) is not None else None
