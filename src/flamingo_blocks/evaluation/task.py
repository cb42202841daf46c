"""A task that was read: its queries, its support, how it is asked and how it is scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.check_candidates import check_candidates
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.score import Metric

Kind = Literal["caption", "question", "memes", "dialogue", "action", "class", "continue"]
Answering = Literal["open", "closed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A task with its items, ready to be asked.

    Args:
        name: Short name, as on the command line: `"vqav2"`.
        kind: Which template of the prompt profile it is asked by.
        answering: `"open"`: the model writes, up to the end of its chunk. `"closed"`: candidates are ranked by their
            log-likelihood.
        metrics: The headline first, then what is reported beside it.
        queries: What is asked.
        support: Where shots are drawn from; of the training split, and none of the queries.
        candidates: What may be answered, where it is one list for all; of `"closed"` tasks.
        demo_answer: Which of its answers a shot shows: the first, or the most frequent (ties: first).
        num_support: Most items of `support` that shots are drawn from: 2048 in the paper.
        support_by_class: Whether that is the most of each class: 32 of each in the paper.
        classes: What tells the class of a shot, for draws that are balanced and for `support_by_class`.
        max_new_tokens: Most tokens that are written, where the task knows better than the profile.
        keep_lists: Whether an answer may be a list, which the clean-up of OpenFlamingo would cut at its first comma.
        version: Raised when the same files would give other items or other scores.

    Raises:
        EvaluationError: If a candidate is empty or comes twice, a query of a closed task has none, or a metric cannot
            score the queries whatever is answered.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> from flamingo_blocks.evaluation.metrics import ExactMatch
        >>> def item(number):
        ...     image = ImageSegment(url=f"{number}.png", data=Path(f"images/{number}.png"))
        ...     return TaskItem(id=str(number), media=(image,), texts={"question": "Which sign?"}, answers=("stop",))
        >>> task = Task(
        ...     name="signs", kind="question", answering="open", metrics=(ExactMatch(),),
        ...     queries=tuple(map(item, range(3))), support=tuple(map(item, range(3, 9))),
        ... )
        >>> len(task.queries), len(task.support)
        (3, 6)
        >>> Task(name="signs", kind="question", answering="closed", metrics=(ExactMatch(),), queries=task.queries)
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: task signs, query '0': has no candidates, which a closed task
        chooses among; give them to the task or to each query
    """

    name: str
    kind: Kind
    answering: Answering
    metrics: tuple[Metric, ...]
    queries: tuple[TaskItem, ...]
    support: tuple[TaskItem, ...] = ()
    candidates: tuple[str, ...] = ()
    demo_answer: Literal["first", "majority"] = "first"
    num_support: int = 2048
    support_by_class: bool = False
    classes: Callable[[TaskItem], str] | None = None
    max_new_tokens: int | None = None
    keep_lists: bool = False
    version: int = 1

    def __post_init__(self) -> None:
        check_candidates(self.candidates, of=f"task {self.name}")
        for item in self.queries:
            check_candidates(item.candidates, of=f"task {self.name}, query {item.id!r}")
            if self.answering == "closed" and not (item.candidates or self.candidates):
                raise EvaluationError(
                    f"task {self.name}, query {item.id!r}: has no candidates, which a closed task chooses among; give "
                    "them to the task or to each query"
                )
        for metric in self.metrics:
            if callable(check := getattr(metric, "check_queries", None)):
                try:
                    check(self.queries)
                except EvaluationError as error:
                    raise EvaluationError(f"task {self.name}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class TaskReader:
    """How a task is read from its official files.

    Args:
        name: Short name, as on the command line.
        title: As papers print it.
        metric: Headline metric, in words.
        kind: Which template it is asked by.
        answering: As in `Task`.
        files: The files that it wants below its folder, with what each is.
        splits: Splits that may be asked, the one of the paper first, or the nearest to it whose answers are public.
        read: Reads `(folder, split)` into a task.

    Example:
        >>> from flamingo_blocks.evaluation.tasks import find_task
        >>> reader = find_task("okvqa")
        >>> reader.title, reader.metric, reader.splits
        ('OK-VQA', 'VQA accuracy (of stems)', ('val',))
    """

    name: str
    title: str
    metric: str
    kind: Kind
    answering: Answering
    files: Mapping[str, str]
    splits: tuple[str, ...]
    read: Callable[[Path, str], Task] = field(compare=False)
