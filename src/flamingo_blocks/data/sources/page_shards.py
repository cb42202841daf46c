"""Pages from whatever a path is, all of them or a part at a time."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.folder_files import is_inside, walk_folder
from flamingo_blocks.data.sources.html_folder import (
    BASE_URL,
    HTML_SUFFIXES,
    folder_url,
    is_html,
    read_html_files,
)
from flamingo_blocks.data.sources.page import MAX_PAGE_BYTES, Page
from flamingo_blocks.data.sources.pages_parquet import read_pages_parquet, row_groups
from flamingo_blocks.data.sources.robots import ROBOTS_TAGS
from flamingo_blocks.data.sources.warc import WARC_SUFFIXES, read_warc

PARQUET_SUFFIX = ".parquet"
_ARCHIVES = ("warc", "parquet")
_Part = tuple[str, tuple[Path, ...], Callable[[], Iterator[Page | Dropped]]]


@dataclass(frozen=True)
class PageShard:
    """A part of the pages of a path: what one worker reads at a time.

    It can be pickled, and reads the same whenever and wherever it is read.

    Args:
        name: Unique among the shards of a path, and fit for the name of a file.
        files: What is read.
        open: Gives the pages, and what is dropped.

    Example:
        >>> page = Page("https://ex.com/cats.html", b"<p>Cats.")
        >>> shard = PageShard("00000", (Path("cats.html"),), lambda: iter([page]))
        >>> [page.content for page in shard.read()]
        [b'<p>Cats.']
    """

    name: str
    files: tuple[Path, ...]
    open: Callable[[], Iterator[Page | Dropped]] = field(compare=False)

    def read(self) -> Iterator[Page | Dropped]:
        """Read the pages from the first one on."""
        return self.open()


def list_page_shards(
    path: str | Path,
    *,
    pages_per_shard: int = 1000,
    base_url: str = BASE_URL,
    url_column: str = "url",
    html_column: str = "html",
    robots: Collection[str] = ROBOTS_TAGS,
    max_bytes: int = MAX_PAGE_BYTES,
) -> list[PageShard]:
    """Divide pages into parts: saved pages by number, parquet by row groups, each archive whole.

    Args:
        path: A file, or a folder with any of them: `.html`, `.htm` and `.xhtml`; `.warc`, `.warc.gz` and `.warc.zst`;
            `.parquet`.
        pages_per_shard: Saved pages in a shard, at most; rows of parquet likewise, if row groups are no larger.
        base_url: Address that the folder of saved pages stands for; see `read_html_folder`.
        url_column: See `read_pages_parquet`.
        html_column: See `read_pages_parquet`.
        robots: See `read_warc`.
        max_bytes: Largest page that is read.

    Returns:
        The shards, in the order of their names; the same at every call while the files are the same.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If there are no pages, or a parquet file has other columns.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(3):
        ...         _ = Path(folder, f"{number}.html").write_text("<p>Tom")
        ...     [shard.name for shard in list_page_shards(folder, pages_per_shard=2)]
        ['00000-html', '00001-html']
    """
    if pages_per_shard < 1:
        raise ValueError(f"pages_per_shard is {pages_per_shard}, wanted 1 or more")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path is {str(path)!r}, where there is nothing")
    if not path.is_dir():
        path = path.resolve()  # who names a link means what it leads to
    folder, files = (path, list(walk_folder(path))) if path.is_dir() else (path.parent, [path])
    root = folder.resolve()
    archives = [file for file in files if _kind(file) in _ARCHIVES and file.is_file() and is_inside(file, root)]
    # What leads out of the folder, or is no file, is read as a page and found out.
    saved = [file for file in files if _kind(file) or file.is_dir()]
    saved = sorted(set(saved).difference(archives))
    read_files = partial(read_html_files, folder=folder, base_url=folder_url(base_url), max_bytes=max_bytes)
    pieces = [tuple(saved[start : start + pages_per_shard]) for start in range(0, len(saved), pages_per_shard)]
    parts: list[_Part] = [("html", piece, partial(read_files, piece)) for piece in pieces]
    columns = {"url_column": url_column, "html_column": html_column}
    for file in archives:
        if _kind(file) == "warc":
            parts.append((file.name, (file,), partial(read_warc, file, robots=tuple(robots), max_bytes=max_bytes)))
            continue
        for groups in row_groups(file, pages_per_shard, **columns):
            read_rows = partial(read_pages_parquet, file, row_groups=groups, max_bytes=max_bytes, **columns)
            parts.append((file.name, (file,), read_rows))
    if not parts:
        wanted = ", ".join((*HTML_SUFFIXES, *WARC_SUFFIXES, PARQUET_SUFFIX))
        raise ValueError(f"path is {str(path)!r}, which holds no pages: no {wanted}")
    return [PageShard(f"{k:05d}-{_safe(name)}", files, read) for k, (name, files, read) in enumerate(parts)]


def _kind(file: Path) -> str | None:
    """What a file of pages is by its name."""
    if is_html(file):
        return "html"
    if file.name.lower().endswith(WARC_SUFFIXES):
        return "warc"
    return "parquet" if file.suffix.lower() == PARQUET_SUFFIX else None


def open_pages(
    path: str | Path, *, base_url: str = BASE_URL, max_bytes: int = MAX_PAGE_BYTES
) -> Iterator[Page | Dropped]:
    """Read the pages of a path, whatever it is.

    Args:
        path: A file or a folder, as `list_page_shards` takes it, which has more options.
        base_url: Address that the folder of saved pages stands for; see `read_html_folder`.
        max_bytes: Largest page that is read.

    Yields:
        A page, or why it is not kept: a `Dropped` of one of `PAGE_REASONS`.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If there are no pages.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "tom.html").write_text("<p>Tom")
        ...     [page.url for page in open_pages(folder)]
        ['https://local.invalid/tom.html']
    """
    for shard in list_page_shards(path, base_url=base_url, max_bytes=max_bytes):
        yield from shard.read()


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:]
