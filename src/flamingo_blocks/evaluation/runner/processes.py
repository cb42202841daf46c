"""What the processes of a run tell each other."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import distributed

Told = TypeVar("Told")


def rank_and_ranks() -> tuple[int, int]:
    """Number of this process, and of all that work together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def barrier() -> None:
    """Wait for all processes, where there are several."""
    if rank_and_ranks()[1] > 1:
        distributed.barrier()


def gathered(own: Told) -> list[Told]:
    """What each process has, by its number.

    Args:
        own: What this one has; something that can be pickled.
    """
    ranks = rank_and_ranks()[1]
    if ranks == 1:
        return [own]
    parts: list[Any] = [None] * ranks
    distributed.all_gather_object(parts, own)
    return parts


def merged_facts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How a task was run by all processes together, from what each of them says.

    Args:
        parts: Of each process, with the same keys: numbers are summed, differences are the largest, lists hold what any
            of them has, what is shared is shared by all, and other values stand once each.

    Example:
        >>> merged_facts([{"checked": 2, "scorer": "trie"}, {"checked": 1, "scorer": "rows"}])
        {'checked': 3, 'scorer': 'trie, rows'}
    """
    return {key: _merged(key, [part[key] for part in parts]) for key in parts[0]}


def _merged(key: str, values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, bool):
        return all(values)
    if isinstance(first, int | float):
        return max(values) if key.startswith("largest") else sum(values)
    if isinstance(first, list):
        return list(dict.fromkeys(one for value in values for one in value))
    return ", ".join(dict.fromkeys(values)) if isinstance(first, str) else first
