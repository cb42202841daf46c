"""The kinds of questions that the demo asks about naming."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flamingo_blocks.demo.images import SEEN_PAIRS, UNSEEN_PAIRS


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of question, asked with several numbers of shots.

    Args:
        key: Stands in `results.json`.
        title: Stands in the table.
        num_names: Names of an episode; chance is one in so many.
        pairs: What the images show.
        hard: Whether the pairs of an episode all have one colour, or all one digit.
        control: What is taken away from the model, if anything.
    """

    key: str
    title: str
    num_names: int
    pairs: Sequence[int]
    hard: bool = False
    control: Literal["gates_closed", "permuted"] | None = None

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots: to one more step for five names, which need more."""
        return (0, 1, 2, 4, 8, 16) if self.num_names > 2 else (0, 1, 2, 4, 8)


UNSEEN_FIVE = Row(key="5.unseen", title="5 names, unseen pairs", num_names=5, pairs=UNSEEN_PAIRS)
ROWS = (
    Row(key="5.seen", title="5 names, seen pairs", num_names=5, pairs=SEEN_PAIRS),
    UNSEEN_FIVE,
    Row(key="2.seen", title="2 names, seen pairs", num_names=2, pairs=SEEN_PAIRS),
    Row(key="2.unseen", title="2 names, unseen pairs", num_names=2, pairs=UNSEEN_PAIRS),
    Row(key="2.hard", title="  same, one colour or one digit", num_names=2, pairs=UNSEEN_PAIRS, hard=True),
    replace(UNSEEN_FIVE, key="5.unseen.gates_closed", title="5 unseen, gates closed", control="gates_closed"),
    replace(UNSEEN_FIVE, key="5.unseen.permuted", title="5 unseen, images permuted", control="permuted"),
)
