"""Blocks stand at equal distances: a checkpoint that breaks this has lost some."""

import math
from collections.abc import Sequence

from flamingo_blocks.errors import CheckpointError


def check_layers(layers: Sequence[int], num_layers: int, *, every: int | None = None, offset: int = 0) -> None:
    """Refuse a checkpoint whose blocks are not at equal distances, or beyond the language model's layers.

    Args:
        layers: Layers that have a block.
        num_layers: Of the language model.
        every: The distance, where it is known; the largest that explains all blocks by default.
        offset: 0: blocks at layers `i` with `i % every == 0`; 1: with `(i + 1) % every == 0`.

    Raises:
        CheckpointError: Naming the layers.
        ValueError: If `every` is below 1.
    """
    if not layers:
        raise CheckpointError("the checkpoint holds no gated block at all")
    if max(layers) >= num_layers:
        raise CheckpointError(
            f"the checkpoint has a block for layer {max(layers)}, but lm has {num_layers} layers; it was made around "
            "another language model"
        )
    step = (math.gcd(*(layer + offset for layer in layers)) or num_layers) if every is None else checked_distance(every)
    wanted = [layer for layer in range(num_layers) if (layer + offset) % step == 0]
    if missing := sorted(set(wanted) - set(layers)):
        raise CheckpointError(f"the checkpoint has blocks for layers {sorted(layers)}, but lacks those for {missing}")
    if others := sorted(set(layers) - set(wanted)):
        raise CheckpointError(f"with every={every} there are no blocks for layers {others}, which the checkpoint has")


def checked_distance(every: int) -> int:
    """The distance of blocks, if it is one.

    Raises:
        ValueError: If it is below 1.
    """
    if every < 1:
        raise ValueError(f"every is {every}, wanted a whole number above 0; omit every= where it is not known")
    return every


def common_step(layers: Sequence[int], num_layers: int, *, family: str, offset: int = 1) -> int:
    """The distance between the blocks of a model, in a family that knows one only.

    Raises:
        CheckpointError: If the family cannot place blocks so.
    """
    step = math.gcd(*(layer + offset for layer in layers)) or num_layers
    wanted = [layer for layer in range(num_layers) if (layer + offset) % step == 0]
    if not layers or wanted != sorted(layers):
        which = "(layer + 1)" if offset else "layer"
        raise CheckpointError(
            f"{family} puts blocks before each layer with {which} % every == 0, and this model has them at "
            f"{sorted(layers)} of {num_layers}"
        )
    return step
