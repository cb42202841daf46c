"""Which items can be shown: their images are looked at before anything is asked."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flamingo_blocks.evaluation.answering import EvaluatedModel
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.runner.processes import gathered


def look_for_images(model: EvaluatedModel, *, rank: int, ranks: int) -> Callable[[Sequence[TaskItem]], dict[str, str]]:
    """A function that tells which items cannot be shown, and why.

    A Flamingo encodes what it can read as it looks at it, so nothing is read twice. Of several processes each looks at
    its share, and all know what each found.

    Args:
        model: Reads images, or encodes them.
        rank: Number of this process.
        ranks: Number of processes.
    """

    def look(items: Sequence[TaskItem]) -> dict[str, str]:
        own = [item for item in items[rank::ranks] if not _lacks_file(item)]
        found = {item.id: f"{_lacks_file(item)} is missing" for item in items[rank::ranks] if _lacks_file(item)}
        if model.unreadable([segment for item in own for segment in item.media]):
            for item in own:
                if told := model.unreadable(item.media):
                    name, reason = next(iter(told.items()))
                    found[item.id] = f"{name} cannot be read: {reason}"
        parts = gathered(found)
        return {item.id: part[item.id] for item in items for part in parts if item.id in part}

    return look


def _lacks_file(item: TaskItem) -> Path | None:
    """The first of its files that is not there."""
    return next((one.data for one in item.media if isinstance(one.data, Path) and not one.data.is_file()), None)
