"""Files below a folder, and none that links lead to outside of it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from flamingo_blocks.data.dropped import Dropped


def walk_folder(folder: Path) -> Iterator[Path]:
    """Files below a folder, hidden ones left out, and the links to folders outside of it.

    Args:
        folder: An existing folder. Links to folders are not followed: what they hold inside of it is found at its own
            place, and what is outside is none of it.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink() and not is_inside(here / name, root)]
        yield from (here / name for name in sorted([*links, *(name for name in files if not name.startswith("."))]))


def is_inside(file: Path, root: Path) -> bool:
    """Whether a file lies below a folder when all links are followed.

    Args:
        file: Any.
        root: The folder, resolved.
    """
    try:
        return file.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a circle of links; a name that no file can have
        return False


def read_inside(file: Path, root: Path, *, max_bytes: int) -> bytes | Dropped:
    """The bytes of a file below a folder, or why they are not read.

    Args:
        file: The file.
        root: The folder, resolved.
        max_bytes: Largest file that is read.

    Returns:
        The bytes, or a `Dropped`: `outside_folder`, `file_missing`, `file_unreadable` or `file_bytes`.
    """
    if not is_inside(file, root):
        return Dropped("outside_folder", f"{file} leads out of {root}")
    try:
        # A pipe would be waited for until somebody writes.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as opened:
            facts = os.fstat(opened.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return Dropped("file_unreadable", f"{file} is no regular file")
            content = b"" if facts.st_size > max_bytes else opened.read(max_bytes + 1)
            if facts.st_size > max_bytes or len(content) > max_bytes:
                return Dropped("file_bytes", f"{file} has more than {max_bytes} bytes")
            return content
    except (FileNotFoundError, NotADirectoryError):
        return Dropped("file_missing", f"{file} does not exist")
    except OSError as error:
        return Dropped("file_unreadable", f"{file}: {error.strerror or error}")
