"""Images of a task: where they are looked for, and which are not there."""

from collections.abc import Iterable
from pathlib import Path

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem


def image_file(folder: Path, name: str, *, url: str | None = None) -> ImageSegment:
    """An image by its path; it is not opened.

    Args:
        folder: The task's folder.
        name: Path below it.
        url: What the official files call it, where that is not `name`.

    Returns:
        The image, whose `data` is the path.

    Example:
        >>> image_file(Path("vizwiz"), "val/VizWiz_val_00000000.jpg", url="VizWiz_val_00000000.jpg").data
        PosixPath('vizwiz/val/VizWiz_val_00000000.jpg')
    """
    return ImageSegment(url=name if url is None else url, data=folder / name)


def missing_media(items: Iterable[TaskItem]) -> list[TaskItem]:
    """Items of which an image or clip is no file; none is opened, and each path is asked for once.

    Args:
        items: Queries or support of a task.

    Returns:
        The items that lack a file, in order. Media that are no paths, such as pictures in memory, are never missing.

    Example:
        >>> Path("there.png").touch()
        >>> media = [image_file(Path(), name) for name in ("there.png", "gone.png")]
        >>> [item.id for item in missing_media(TaskItem(id=image.url, media=(image,)) for image in media)]
        ['gone.png']
    """
    there: dict[Path, bool] = {}
    found = []
    for item in items:
        paths = [media.data for media in item.media if isinstance(media.data, Path)]
        for path in paths:
            if path not in there:
                there[path] = path.is_file()
        if not all(there[path] for path in paths):
            found.append(item)
    return found
