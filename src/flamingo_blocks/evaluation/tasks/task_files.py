"""Where the official files of a task are; all that are missing are told at once."""

from collections.abc import Sequence
from pathlib import Path

from flamingo_blocks.errors import EvaluationError


def find_files(folder: Path, *layouts: Sequence[str]) -> tuple[int, tuple[Path, ...]]:
    """Files of a task, under the names of the first layout that is there as a whole.

    Args:
        folder: The task's folder.
        layouts: Names of the files wanted; several where the same data is handed around under several names.

    Returns:
        Which layout it is, and the paths of its files in the order of its names.

    Raises:
        EvaluationError: If each layout lacks a file; it names every file that was wanted.

    Example:
        >>> folder = Path("okvqa")
        >>> folder.mkdir()
        >>> (folder / "train.json").touch()
        >>> find_files(folder, ["train.json"])
        (0, (PosixPath('okvqa/train.json'),))
        >>> find_files(folder, ["train.json", "val.json"])
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: okvqa lacks files of the task: wanted train.json (there), val.json \
(missing); the folder has train.json
    """
    wanted = []
    for number, names in enumerate(layouts):
        missing = [name for name in names if not (folder / name).is_file()]
        if not missing:
            return number, tuple(folder / name for name in names)
        wanted.append(", ".join(f"{name} ({'missing' if name in missing else 'there'})" for name in names))
    raise EvaluationError(f"{folder} lacks files of the task: wanted {'; or '.join(wanted)}; {held(folder)}")


def held(folder: Path) -> str:
    """What a folder has, as an error says it.

    Args:
        folder: The folder, which need not be there.
    """
    if not folder.is_dir():
        return "the folder does not exist"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the folder has {', '.join(names[:8]) or 'nothing'}{more}"
