"""Images by their address, from what is on the disk."""

import os
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes, urlsplit

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.folder_files import read_inside
from flamingo_blocks.data.sources.html_folder import BASE_URL, folder_url

MAX_IMAGE_BYTES = 20_000_000
_REASONS = {"file_bytes": "fetch_bytes", "file_unreadable": "fetch_failed", "file_missing": "fetch_missing"}


@runtime_checkable
class Fetcher(Protocol):
    """What gives the bytes behind an address, or says why not.

    No step of this library reaches for the network unless it is given a fetcher that does.

    Example:
        >>> class Held:
        ...     reasons = ("fetch_missing",)
        ...
        ...     def fetch(self, url: str) -> bytes | Dropped:
        ...         return b"GIF89a" if url.endswith("cat.gif") else Dropped("fetch_missing", url)
        >>> isinstance(Held(), Fetcher)
        True
    """

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that it may say."""

    def fetch(self, url: str) -> bytes | Dropped:
        """The bytes, or why there are none.

        Args:
            url: The address.
        """


class FolderFetcher:
    """Take the files of a folder for what stands below an address.

    A query is no part of a file's name and ignored. No address leads out of the folder: not by `..`, written in
    percents or not, and not by links.

    Args:
        folder: The folder.
        base_url: Address that it stands for; that of `read_html_folder` by default.
        max_bytes: Largest file that is read.

    Raises:
        ValueError: If `folder` is no folder, or `base_url` no http(s) address.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "tom cat.jpg").write_bytes(b"...")
        ...     fetcher = FolderFetcher(folder, base_url="https://ex.com/cats/")
        ...     print(fetcher.fetch("https://ex.com/cats/tom%20cat.jpg?size=2"))
        ...     print(fetcher.fetch("https://ex.com/cats/%2e%2e/secret").reason)
        b'...'
        outside_folder
    """

    reasons = ("fetch_url", "fetch_missing", "fetch_bytes", "fetch_failed", "outside_folder")

    def __init__(self, folder: str | Path, base_url: str = BASE_URL, *, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        if not Path(folder).is_dir():
            raise ValueError(f"folder is {str(folder)!r}, wanted an existing folder")
        self.folder, self.base_url, self.max_bytes = Path(folder).resolve(), folder_url(base_url), max_bytes

    def fetch(self, url: str) -> bytes | Dropped:
        """The bytes of a file, or why there are none.

        Args:
            url: Address below `base_url`.
        """
        path = self._path(url)
        if path is None:
            return Dropped("fetch_url", f"{url[:200]!r} is not below {self.base_url}")
        if b"\0" in path:
            return Dropped("outside_folder", f"{url[:200]!r} holds a character that no file's name has")
        found = read_inside(self.folder / os.fsdecode(path.lstrip(b"/")), self.folder, max_bytes=self.max_bytes)
        return Dropped(_REASONS.get(found.reason, found.reason), found.detail) if isinstance(found, Dropped) else found

    def _path(self, url: str) -> bytes | None:
        """The path of a file within the folder."""
        base = urlsplit(self.base_url)
        try:
            parts = urlsplit(url)
            same = (parts.scheme, parts.netloc.lower()) == (base.scheme, base.netloc.lower())
        except ValueError:  # brackets that hold no address
            return None
        if not same or not parts.path.startswith(base.path):
            return None
        return unquote_to_bytes(parts.path[len(base.path) :])
