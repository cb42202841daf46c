"""What tasks of classes share."""

from flamingo_blocks.evaluation.item import TaskItem

SHOTS_A_CLASS = 32  # that shots are drawn from, in the paper


def class_of(item: TaskItem) -> str:
    """The class of an item, which is its answer."""
    return item.answers[0]
