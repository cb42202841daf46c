"""What a model is shown for one query, before it is written as a prompt."""

from dataclasses import dataclass

from flamingo_blocks.evaluation.item import TaskItem


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownShot:
    """One shot as it is shown.

    Args:
        item: The shot.
        answer: The answer that it shows.
        with_media: Whether its images and their tags stand in the prompt.
    """

    item: TaskItem
    answer: str
    with_media: bool = True

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for shots that are written in the same way."""
        media = tuple(segment.url or id(segment) for segment in self.item.media)
        return (self.item.id, self.answer, media if self.with_media else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The shots and the query of one prompt.

    Args:
        shots: First to last.
        query: What is asked.
        query_with_media: Whether the query's images and their tags stand in the prompt.
    """

    shots: tuple[ShownShot, ...]
    query: TaskItem
    query_with_media: bool = True
