"""The processes of a run, and what they tell each other: what fails in one of them, fails in all."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from flamingo_blocks.errors import CheckpointError

T = TypeVar("T")


class Processes:
    """All processes of the group that is up, or this one alone where there is none.

    They talk over a group of their own: a thread that saves must not get between the collectives of the training.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self.rank, self.number = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            self._group = distributed.new_group(backend="gloo")
            self.rank, self.number = distributed.get_rank(), distributed.get_world_size()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.rank == 0

    def everyone(self, what: str, action: Callable[[], T]) -> list[T]:
        """Do something in every process.

        Args:
            what: What errors begin with.
            action: Gives something that travels by pickle.

        Returns:
            What it gave, by rank.

        Raises:
            CheckpointError: In all processes, if it fails in one of them; the message names their ranks.

        Example:
            >>> Processes().everyone("counting", lambda: 3)
            [3]
        """
        value, said, cause = _outcome(action)
        outcomes: list[Any] = [(value, said)]
        if self._group is not None:
            outcomes = [None] * self.number
            distributed.all_gather_object(outcomes, (value, said), group=self._group)
        wrong = [f"rank {rank}: {said}" for rank, (_, said) in enumerate(outcomes) if said is not None]
        if wrong:
            raise CheckpointError(f"{what}: {'; '.join(wrong)}") from cause
        return [value for value, _ in outcomes]

    def first(self, what: str, action: Callable[[], T]) -> T:
        """Do something in the first process alone, and tell all what it gave or why it failed; as `everyone`."""
        outcome: list[Any] = [None]
        cause: Exception | None = None
        if self.is_first:
            *told, cause = _outcome(action)
            outcome = [tuple(told)]
        if self._group is not None:
            distributed.broadcast_object_list(outcome, src=0, group=self._group)
        value, said = outcome[0]
        if said is not None:
            raise CheckpointError(f"{what}: rank 0: {said}") from cause
        given: T = value
        return given


def _outcome(action: Callable[[], T]) -> tuple[T | None, str | None, Exception | None]:
    try:
        return action(), None, None
    except CheckpointError as error:
        return None, str(error), error
    except Exception as error:  # noqa: BLE001 - the others wait to be told, whatever it is
        return None, f"{type(error).__name__}: {error}", error
