"""The batches of a step on all ranks: drawn before anything is computed, and counted in one message."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import distributed, nn

from flamingo_blocks.training.objective import Drawn, Objective, draw
from flamingo_blocks.training.ranks.gradients import several_ranks, sum_over_ranks
from flamingo_blocks.training.stop import StopRequest


def draw_together(
    asked: Sequence[tuple[Objective, Iterator[Any]]],
    model: nn.Module,
    *,
    step: int,
    stop: StopRequest | bool,
    device: torch.device,
) -> tuple[list[Drawn], list[list[int]], bool]:
    """Draw the batches of a step, and tell what they hold on all ranks together and whether one was asked to end.

    It is one message, so that every rank divides by the same numbers and ends at the same step. What fails in one
    fails in all: the others would wait for it.

    Args:
        asked: The data sets and what their batches come from, the same in the same order on all ranks.
        model: As in `Objective.count`.
        step: Its number.
        stop: Whether this rank was asked to end, looked at when the batches are there, which may take long.
        device: That of the process group.

    Returns:
        What this rank has drawn; for each data set its terms, tokens and items on all ranks; and whether to end.

    Raises:
        ValueError: If a data set has no batch left, on this rank.
        RuntimeError: If another rank could not draw its batches; the message says why.
    """
    drawn, failure = list[Drawn](), None
    try:
        drawn = [draw(objective, source, model, step) for objective, source in asked]
    except Exception as error:
        if not several_ranks():
            raise
        drawn, failure = [], error
    sizes = [size for one in drawn for size in one.sizes] if failure is None else [0, 0, 0] * len(asked)
    whole = [*sizes, int(bool(stop)), int(failure is not None)]
    if several_ranks():  # in one process they are the host's own numbers, and nothing has to be read
        whole = sum_over_ranks(torch.tensor(whole, dtype=torch.int64, device=device)).tolist()
    *sizes, ends, failures = whole
    if failures:
        _raise_together(failure, step)
    return drawn, [sizes[start : start + 3] for start in range(0, len(sizes), 3)], ends > 0


def _raise_together(failure: Exception | None, step: int) -> None:
    """End all ranks: the one that failed with its own error, the others with what it says."""
    mine = None if failure is None else f"{type(failure).__name__}: {failure}"
    said: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(said, mine)
    if failure is not None:
        raise failure
    wrong = "; ".join(f"rank {rank}: {each}" for rank, each in enumerate(said) if each is not None)
    raise RuntimeError(f"step {step} was not made, since not all ranks have their batches: {wrong}")
