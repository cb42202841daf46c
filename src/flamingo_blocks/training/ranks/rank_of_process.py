"""Which of the processes that train together this one is."""

import os

from torch import distributed


def rank_of_process() -> int:
    """The rank of this process: of the process group, or what `torchrun` says before there is one; else 0.

    Example:
        >>> rank_of_process()
        0
    """
    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    return int(os.environ.get("RANK", "0"))
