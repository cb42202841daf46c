"""Clips of a task, whole or cut, as segments that are decoded later."""

import math
from pathlib import Path

from flamingo_blocks.data import ClipSegment
from flamingo_blocks.evaluation.read_rows import Row
from flamingo_blocks.evaluation.tasks.files_by_stem import CLIP_SUFFIXES, FilesByStem


class ClipFiles:
    """Clips below the folder of a task.

    Args:
        folder: The folder of the task; see `FilesByStem` for where clips may lie in it.
        suffix: Of the official names. A file with another suffix of clips is taken as well.

    Example:
        >>> segment = ClipFiles(Path("star")).clip("6H78U", cut_s=(11.1, 19.6))
        >>> segment.url, segment.metadata
        ('6H78U.mp4#11.1-19.6', {'start_s': 11.1, 'end_s': 19.6})
        >>> segment.data == Path("star/6H78U.mp4")  # where it would have been found
        True
    """

    def __init__(self, folder: Path, *, suffix: str = ".mp4") -> None:
        self._folder, self._suffix = folder, suffix
        self._files = FilesByStem(folder, CLIP_SUFFIXES)

    def clip(self, name: str, *, cut_s: tuple[float, float] | None = None) -> ClipSegment:
        """A clip by its official name.

        Args:
            name: The name without its suffix; folders in front of it belong to `url` alone.
            cut_s: Where the piece that is meant begins and ends in the file; the whole file otherwise.

        Returns:
            A clip whose `data` is a path, of a file that may be missing. A cut has `start_s` and `end_s` in `metadata`.

        Raises:
            EvaluationError: If two files have the name.
        """
        official = f"{name}{self._suffix}"
        path = self._files.find(name.rpartition("/")[2]) or self._folder / official
        if cut_s is None:
            return ClipSegment(url=official, data=path)
        return cut_segment(official, path, cut_s)


def cut_segment(name: str, path: Path, cut_s: tuple[float, float]) -> ClipSegment:
    """A piece of a clip.

    Args:
        name: What the official files call the whole clip.
        path: Where its file is.
        cut_s: Where the piece begins and ends, in seconds.

    Example:
        >>> cut_segment("6H78U.mp4", Path("6H78U.mp4"), (11.1, 19)).url
        '6H78U.mp4#11.1-19'
    """
    start_s, end_s = cut_s
    metadata = {"start_s": start_s, "end_s": end_s}
    return ClipSegment(url=f"{name}#{_short(start_s)}-{_short(end_s)}", data=path, metadata=metadata)


def cut_of(row: Row, start: str = "start", end: str = "end") -> tuple[float, float]:
    """Where a cut begins and ends, in seconds, written as numbers or as text.

    Args:
        row: The row.
        start: Key of the beginning.
        end: Key of the end.

    Raises:
        EvaluationError: If they are no numbers from 0 on, or the end is not behind the beginning.
    """
    first, last = number_of(row, start), number_of(row, end)
    if first < 0:
        raise row.wrong(start, "wanted 0 or more seconds")
    if last <= first:
        raise row.wrong(end, f"wanted more than {start}, which is {_short(first)}")
    return first, last


def number_of(row: Row, key: str) -> float:
    """A finite number, written as one or as text, as it is in a CSV.

    Args:
        row: The row.
        key: Its key.

    Raises:
        EvaluationError: Naming file, row, key and what was found.
    """
    value = row.get(key)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError as error:
            raise row.wrong(key, "wanted a number") from error
    else:
        number = row.take(key, float)
    if not math.isfinite(number):
        raise row.wrong(key, "wanted a finite number")
    return number


def whole_number_of(row: Row, key: str) -> int:
    """A whole number, written as one or as text.

    Args:
        row: The row.
        key: Its key.

    Raises:
        EvaluationError: Naming file, row, key and what was found.
    """
    number = number_of(row, key)
    if number != int(number):
        raise row.wrong(key, "wanted a whole number")
    return int(number)


def _short(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else repr(seconds)
