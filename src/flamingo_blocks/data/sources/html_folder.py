"""Pages that were saved as files."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.folder_files import read_inside, walk_folder
from flamingo_blocks.data.sources.page import MAX_PAGE_BYTES, Page

BASE_URL = "https://local.invalid/"  # a host that is promised never to exist (RFC 2606)
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
_REASONS = {"file_bytes": "page_bytes", "file_unreadable": "page_unreadable", "file_missing": "page_unreadable"}


def read_html_folder(
    folder: str | Path, *, base_url: str = BASE_URL, max_bytes: int = MAX_PAGE_BYTES
) -> Iterator[Page | Dropped]:
    """Read the pages in a folder and its subfolders: files that end in `.html`, `.htm` or `.xhtml`, in sorted order.

    A link to a file outside of the folder is not followed and given as `outside_folder`. Hidden files and folders are
    passed over.

    Args:
        folder: The folder.
        base_url: Address that the folder stands for. A page's is this and its path; the default is one of nowhere.
        max_bytes: Largest page that is read.

    Yields:
        A page, or why it is not read: `page_bytes`, `page_unreadable` or `outside_folder`.

    Raises:
        ValueError: If `folder` is no folder, or `base_url` no http(s) address.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "my cat.html").write_text("<p>Tom")
        ...     [page] = read_html_folder(folder, base_url="https://ex.com/cats/")
        >>> page.url, page.content
        ('https://ex.com/cats/my%20cat.html', b'<p>Tom')
    """
    if not Path(folder).is_dir():
        raise ValueError(f"folder is {str(folder)!r}, wanted an existing folder")
    return read_html_files(html_files(Path(folder)), folder, base_url=folder_url(base_url), max_bytes=max_bytes)


def html_files(folder: Path) -> Iterator[Path]:
    """Files of pages below a folder, and links out of it.

    Args:
        folder: An existing folder.
    """
    return iter(sorted(file for file in walk_folder(folder) if is_html(file) or file.is_dir()))


def is_html(file: Path) -> bool:
    """Whether a file is called a page.

    Args:
        file: Any.
    """
    return file.suffix.lower() in HTML_SUFFIXES


def read_html_files(
    files: Iterable[Path], folder: str | Path, *, base_url: str, max_bytes: int = MAX_PAGE_BYTES
) -> Iterator[Page | Dropped]:
    """Read some pages of a folder.

    Args:
        files: They.
        folder: The folder.
        base_url: What `folder_url` made of the address that it stands for.
        max_bytes: Largest page that is read.
    """
    root = Path(folder).resolve()
    for file in files:
        content = read_inside(file, root, max_bytes=max_bytes)
        if isinstance(content, Dropped):
            yield Dropped(_REASONS.get(content.reason, content.reason), content.detail)
        else:
            path = quote(os.fsencode(file.relative_to(folder).as_posix()))
            yield Page(base_url + path, content)


def folder_url(base_url: str) -> str:
    """The address that a folder stands for, which ends in a slash.

    Args:
        base_url: It, or the same without the slash.

    Raises:
        ValueError: If it is no http(s) address of a folder.
    """
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:  # brackets that hold no address
        fits = False
    if not fits:
        raise ValueError(f"base_url is {base_url!r}, wanted an http(s) address such as {BASE_URL!r}")
    return base_url if base_url.endswith("/") else base_url + "/"
