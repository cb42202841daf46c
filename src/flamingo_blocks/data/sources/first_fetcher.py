"""Images from several places, asked one after the other."""

from collections.abc import Sequence
from pathlib import Path

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.fetcher import Fetcher, FolderFetcher
from flamingo_blocks.data.sources.folder_files import is_inside, walk_folder
from flamingo_blocks.data.sources.html_folder import BASE_URL
from flamingo_blocks.data.sources.warc import WARC_SUFFIXES
from flamingo_blocks.data.sources.warc_fetcher import WarcFetcher


class FirstFetcher:
    """Ask several fetchers, and take the first answer.

    Args:
        fetchers: They, in order.

    Raises:
        ValueError: If there are none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "tom.jpg").write_bytes(b"...")
        ...     bases = "https://a.example/", "https://b.example/"
        ...     fetcher = FirstFetcher([FolderFetcher(folder, base_url) for base_url in bases])
        ...     fetcher.fetch("https://b.example/tom.jpg")
        b'...'
    """

    def __init__(self, fetchers: Sequence[Fetcher]) -> None:
        if not fetchers:
            raise ValueError("fetchers is empty, wanted one or more")
        self.fetchers = tuple(fetchers)

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that its fetchers may say."""
        return tuple(dict.fromkeys(reason for fetcher in self.fetchers for reason in fetcher.reasons))

    def fetch(self, url: str) -> bytes | Dropped:
        """The bytes, or why the last one had none.

        Args:
            url: The address.
        """
        for fetcher in self.fetchers:
            found = fetcher.fetch(url)
            if not isinstance(found, Dropped):
                return found
        return found


def open_images(path: str | Path, *, base_url: str = BASE_URL) -> Fetcher:
    """Images from whatever a path is: the files of a folder, and the archives in it; or one archive.

    Args:
        path: A folder, or an archive in the WARC format.
        base_url: Address that the folder stands for; see `read_html_folder`.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is another kind of file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     type(open_images(folder)).__name__
        'FolderFetcher'
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path is {str(path)!r}, where there is nothing")
    if path.is_dir():
        named = [file for file in walk_folder(path) if file.name.lower().endswith(WARC_SUFFIXES)]
        archives = sorted(file for file in named if file.is_file() and is_inside(file, path.resolve()))
        folder = FolderFetcher(path, base_url)
        return FirstFetcher([folder, WarcFetcher(archives)]) if archives else folder
    if not path.name.lower().endswith(WARC_SUFFIXES):
        raise ValueError(f"path is {path.name!r}, wanted a folder or one of {', '.join(WARC_SUFFIXES)}")
    return WarcFetcher([path])
