"""What a model is shown for one query, before it is written as a prompt."""

from dataclasses import dataclass
from pathlib import Path

from flamingo_blocks.data import ClipSegment, ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.same_picture import content_digest


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownShot:
    """One shot as it is shown.

    Args:
        item: The shot.
        answer: The answer that it shows.
        with_media: Whether its images and their tags stand in the prompt.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> item = TaskItem(id="7", media=(ImageSegment(url="cat.jpg"),), answers=("a cat",))
        >>> own, other = ShownShot(item=item, answer="a cat"), ShownShot(item=item, answer="a dog")
        >>> own.key == other.key, own.key == ShownShot(item=item, answer="a cat").key
        (False, True)
    """

    item: TaskItem
    answer: str
    with_media: bool = True

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for shots that are written in the same way."""
        media = tuple(map(_known_by, self.item.media)) if self.with_media else None
        return (self.item.id, self.answer, media)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The shots and the query of one prompt.

    Args:
        shots: First to last.
        query: What is asked.
        query_with_media: Whether the query's images and their tags stand in the prompt.

    Example:
        >>> shot, query = (TaskItem(id=name, media=()) for name in ("cat", "dog"))
        >>> shown = Shown(shots=(ShownShot(item=shot, answer="a cat"),), query=query)
        >>> [one.answer for one in shown.shots], shown.query.id, shown.query_with_media
        (['a cat'], 'dog', True)
    """

    shots: tuple[ShownShot, ...]
    query: TaskItem
    query_with_media: bool = True


def _known_by(segment: ImageSegment | ClipSegment) -> str:
    """The same in every process, for prompts are shared out in the order of their keys."""
    if segment.url is not None:
        return segment.url
    return str(segment.data) if isinstance(segment.data, str | Path) else content_digest(segment.data).hex()
