"""Files of images or clips below a folder, found by their names; none is opened."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flamingo_blocks.errors import EvaluationError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CLIP_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


class FilesByStem:
    """Where the files of a task lie: anywhere below its folder, under their official names.

    Archives unpack into folders of many names, and what fetches clips chooses the container. So a file is known by its
    name without the suffix. The folders are listed once, links to folders included.

    Args:
        folder: The folder of the task.
        suffixes: Suffixes that count, of any case.

    Example:
        >>> FilesByStem(Path("nowhere"), CLIP_SUFFIXES).find("video7") is None
        True
    """

    def __init__(self, folder: Path, suffixes: Iterable[str]) -> None:
        self._found: dict[str, list[str]] = {}
        wanted = frozenset(suffixes)
        for parent, name in _walk(folder):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - no Path for each of a million names
            if suffix.lower() in wanted:
                self._found.setdefault(stem, []).append(f"{parent}{os.sep}{name}")

    def find(self, stem: str) -> Path | None:
        """The file of a name, or None if there is none.

        Args:
            stem: The name without its suffix.

        Raises:
            EvaluationError: If two files have the name.
        """
        found = self._found.get(stem, [])
        if len(found) > 1:
            raise EvaluationError(f"{stem!r} is the name of {found[0]} and of {found[1]}; leave one of them there")
        return Path(found[0]) if found else None


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):  # such as the shadow files of archives
                yield parent, name
