"""Which part of every batch is this process's."""

from typing import Any

from torch import distributed


def data_parallel_rank(group: Any = None) -> tuple[int, int]:
    """Rank and world size of this process: `(0, 1)` where torch's process group is not initialised.

    Args:
        group: The process group whose members see different data. Ranks that share a model by other means, such as
            tensor parallelism, must get the same data: give the group across them.

    Example:
        >>> data_parallel_rank()
        (0, 1)
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(group), distributed.get_world_size(group)
