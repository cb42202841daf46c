"""One row of a task: what is asked, about which images or clips, and what counts as right."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flamingo_blocks.data import ClipSegment, ImageSegment


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskItem:
    """One row of a task, as a query or as a shot.

    Args:
        id: What the official files call it; unique among the queries and among the support of a task.
        media: Its images and clips in the order of their tags. `url` is the name in the official files and unique to
            the picture (to the cut, of a clip); `data` is a path, or the picture itself.
        texts: What the prompt says of it, by the name of a template: `"question"`, `"caption"`, `"ocr"`.
        turns: Questions and answers that came before it in a dialogue.
        answers: What counts as right, as the official files have it; none where the split has no answers.
        candidates: What may be answered, where each item has a list of its own.
        cluster: The image or video that it is about. Items of one cluster are drawn together by the bootstrap, and
            none of them is a shot of another.
        facts: What its metric reads besides: a label, the relevance of each candidate, a type of question.
        support: Shots that belong to this query alone, where a task is made of episodes.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> image = ImageSegment(url="val2014/COCO_val2014_000000000042.jpg", data="COCO_val2014_000000000042.jpg")
        >>> item = TaskItem(id="42000", media=(image,), texts={"question": "What is it?"}, answers=("a net",))
        >>> item.cluster  # the image, where nothing else is said
        'val2014/COCO_val2014_000000000042.jpg'
    """

    id: str
    media: tuple[ImageSegment | ClipSegment, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    turns: tuple[tuple[str, str], ...] = ()
    answers: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    cluster: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    support: "tuple[TaskItem, ...] | None" = None

    def __post_init__(self) -> None:
        if not self.cluster:
            object.__setattr__(self, "cluster", self.media[0].url or self.id if self.media else self.id)
