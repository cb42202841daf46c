"""Controls: one thing is taken away from the model, and all else stays as it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from flamingo_blocks.data import ClipSegment, ImageSegment
from flamingo_blocks.data.examples.keyed_draws import KeyedDraws
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.controls.shown import Shown, ShownShot
from flamingo_blocks.evaluation.item import TaskItem

MediaSegment = ImageSegment | ClipSegment


@dataclass(frozen=True, kw_only=True, eq=False)
class AtHand:
    """What a control may use besides what is shown.

    Args:
        task: Name of the task.
        seed: Decides what is drawn.
        queries: All queries of the task, in any order.
        blank: Gives an item of the same shape that shows nothing.

    Example:
        >>> from flamingo_blocks.evaluation.controls import ShownShot
        >>> items = [TaskItem(id=name, media=()) for name in ("hen", "dog", "cat")]
        >>> at_hand = AtHand(task="animals", seed=0, queries=items, blank=lambda item: item)
        >>> [item.id for item in at_hand.by_id]
        ['cat', 'dog', 'hen']
        >>> shown = Shown(shots=tuple(ShownShot(item=item, answer=item.id) for item in items), query=items[0])
        >>> at_hand.order(shown, "shuffle_order")  # the same whenever it is asked
        [0, 2, 1]
    """

    task: str
    seed: int
    queries: Sequence[TaskItem]
    blank: Callable[[MediaSegment], MediaSegment]

    @cached_property
    def by_id(self) -> list[TaskItem]:
        """The queries in the order of their ids."""
        return sorted(self.queries, key=lambda item: item.id)

    def order(self, shown: Shown, purpose: str) -> list[int]:
        """Places of the shots in a drawn order. It depends on the shots alone, so queries of one prompt share it.

        Args:
            shown: What is shown.
            purpose: What the order is for.
        """
        draws = KeyedDraws((self.task, purpose, self.seed, *(shot.item.id for shot in shown.shots)))
        return sorted(range(len(shown.shots)), key=draws.uniform)


Change = Callable[[Shown, AtHand], Shown]


@dataclass(frozen=True, kw_only=True)
class Control:
    """One thing that is changed about every prompt, or about the model.

    Args:
        name: As in files and on the command line.
        says: What a score that stays as it was would mean.
        change: Changes what is shown.
        closes_gates: Whether the gates of the model are closed, so that it sees nothing.
        min_shots: Fewest shots that it changes anything about; with fewer it is not asked.
        moves_answers: Whether shots show other answers than their own, so that nothing is told of copies.

    Example:
        >>> from flamingo_blocks.evaluation.controls import ShownShot
        >>> last_first = Control(
        ...     name="last_first", says="the order of the shots does not matter", min_shots=2,
        ...     change=lambda shown, at_hand: replace(shown, shots=shown.shots[::-1]),
        ... )
        >>> items = [TaskItem(id=name, media=()) for name in ("cat", "dog")]
        >>> shown = Shown(shots=tuple(ShownShot(item=item, answer=item.id) for item in items), query=items[0])
        >>> at_hand = AtHand(task="animals", seed=0, queries=items, blank=lambda item: item)
        >>> [shot.answer for shot in last_first.change(shown, at_hand).shots]
        ['dog', 'cat']
    """

    name: str
    says: str
    change: Change
    closes_gates: bool = False
    min_shots: int = 0
    moves_answers: bool = False


def _as_it_was(shown: Shown, _at_hand: AtHand) -> Shown:
    return shown


def _text_only(shown: Shown, _at_hand: AtHand) -> Shown:
    return replace(shown, shots=tuple(replace(shot, with_media=False) for shot in shown.shots))


def _no_shot_images(shown: Shown, at_hand: AtHand) -> Shown:
    blanks = (tuple(map(at_hand.blank, shot.item.media)) for shot in shown.shots)
    return replace(shown, shots=tuple(map(_with_media, shown.shots, blanks)))


def _shuffle_images(shown: Shown, at_hand: AtHand) -> Shown:
    media = (shown.shots[place].item.media for place in at_hand.order(shown, "shuffle_images"))
    return replace(shown, shots=tuple(map(_with_media, shown.shots, media)))


def _shuffle_labels(shown: Shown, at_hand: AtHand) -> Shown:
    """Each shot gets the answer of the next one in a drawn circle, so that none keeps its own place."""
    order = at_hand.order(shown, "shuffle_labels")
    answers = {place: shown.shots[after].answer for place, after in zip(order, order[1:] + order[:1], strict=True)}
    return replace(shown, shots=tuple(replace(shot, answer=answers[place]) for place, shot in enumerate(shown.shots)))


def _shuffle_order(shown: Shown, at_hand: AtHand) -> Shown:
    return replace(shown, shots=tuple(shown.shots[place] for place in at_hand.order(shown, "shuffle_order")))


def _blind(shown: Shown, _at_hand: AtHand) -> Shown:
    return replace(shown, query_with_media=False)


def _swap_query_image(shown: Shown, at_hand: AtHand) -> Shown:
    """The first query of another picture behind a drawn place: it depends on the task's queries, asked or not."""
    own, queries = shown.query, at_hand.by_id
    draws = KeyedDraws((at_hand.task, "swap_query_image", at_hand.seed, own.id))
    start = int(draws.uniform() * len(queries))
    for place in (*range(start, len(queries)), *range(start)):
        other = queries[place]
        if other.cluster != own.cluster and len(other.media) == len(own.media) and _is_there(other):
            return replace(shown, query=replace(own, media=other.media))
    raise EvaluationError(
        f"control swap_query_image: no other query has {len(own.media)} images of another picture than query "
        f"{own.id!r}; leave the control out"
    )


def _is_there(item: TaskItem) -> bool:
    return all(not isinstance(one.data, Path) or one.data.is_file() for one in item.media)


def _with_media(shot: ShownShot, media: tuple[MediaSegment, ...]) -> ShownShot:
    return replace(shot, item=replace(shot.item, media=media))


_ALL = (
    Control(name="none", says="", change=_as_it_was),
    Control(
        name="gates_closed", says="the language model answers without the images", change=_as_it_was, closes_gates=True
    ),
    Control(name="text_only", says="the texts of the shots are enough", change=_text_only, min_shots=1),
    Control(
        name="no_shot_images", says="the images of the shots are not looked at", change=_no_shot_images, min_shots=1
    ),
    Control(
        name="shuffle_images", says="which image belongs to which shot does not matter", change=_shuffle_images,
        min_shots=2,
    ),
    Control(
        name="shuffle_labels", says="which answer belongs to which shot does not matter", change=_shuffle_labels,
        min_shots=2, moves_answers=True,
    ),
    Control(name="shuffle_order", says="the order of the shots does not matter", change=_shuffle_order, min_shots=2),
    Control(name="blind", says="the query's image is not looked at", change=_blind),
    Control(name="swap_query_image", says="any image would do in the query", change=_swap_query_image),
)  # fmt: skip
CONTROLS = {control.name: control for control in _ALL}
DEFAULT_CONTROLS = ("gates_closed", "text_only", "no_shot_images", "shuffle_images", "shuffle_labels")


def find_control(name: str) -> Control:
    """A control by its name.

    Args:
        name: Its name.

    Raises:
        EvaluationError: If there is none of that name.

    Example:
        >>> find_control("blind").says
        "the query's image is not looked at"
    """
    if name not in CONTROLS:
        raise EvaluationError(
            f"controls has {name!r}, wanted some of {', '.join(key for key in CONTROLS if key != 'none')}"
        )
    return CONTROLS[name]
