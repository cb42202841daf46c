"""Shapes of the model that a plan or an outline describes, and tensors of a checkpoint that have others."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.checkpoint_files import ForeignCheckpoint
from flamingo_blocks.interop.families._frozen_parts import table_and_head
from flamingo_blocks.interop.key_map import Entry, Outline, Plan, Shapes
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler


def parts_on_meta(described: Plan | Outline) -> dict[str, nn.Module]:
    """Blocks, resampler and projection by their names in a `Flamingo`, without memory.

    Args:
        described: How they are built.

    Raises:
        CheckpointError: If there can be no such part.
    """
    parts: dict[str, nn.Module] = {}
    try:
        with torch.device("meta"):
            for layer, arguments in described.blocks.items():
                parts[f"blocks.{layer}"] = GatedCrossAttentionBlock(**arguments)
            if described.resampler is not None:
                parts["resampler"] = PerceiverResampler(**described.resampler)
            if isinstance(described, Plan) and described.projection is not None:
                parts["projection"] = nn.Linear(**described.projection)
    except ValueError as error:
        raise CheckpointError(f"the checkpoint describes a part that cannot be built: {error}") from error
    return parts


def planned_shapes(parts: Mapping[str, nn.Module], *, plan: Plan | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes by the names in `Flamingo.state_dict()`, without building one.

    Args:
        parts: What `parts_on_meta` gave, and `lm` and `vision`.
        plan: Tells whether there are rows for new tokens beside the table of `lm`.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    shapes = {f"{name}.{key}": tuple(tensor.shape) for name, state in states.items() for key, tensor in state.items()}
    options: dict[str, Any] = {} if plan is None else plan.flamingo
    if rows := options.get("num_new_tokens", 0):
        pair = table_and_head(parts["lm"], embedding=options.get("embedding"), head=options.get("head"))
        for name, weight in zip(("token_rows.input", "token_rows.output"), pair, strict=True):
            if weight is not None:
                shapes[name] = (rows, *shapes[f"lm.{weight}"][1:])
    return shapes


def other_shapes(
    opened: ForeignCheckpoint, entries: Iterable[Entry], shapes: Shapes
) -> Iterator[tuple[str, tuple[int, ...] | None, Entry]]:
    """Tensors of a checkpoint that do not have the shape which the model gives them.

    Args:
        opened: The checkpoint.
        entries: Where its tensors go.
        shapes: Of the model; entries of other names are passed over.

    Yields:
        Plain name, the shape wanted, and the entry.
    """
    for entry in entries:
        if all(ours in shapes for ours in entry.ours):
            wanted = entry.foreign_shape([shapes[ours] for ours in entry.ours])
            for name in entry.names:
                if name in opened.tensors and opened.tensors[name].shape != wanted:
                    yield name, wanted, entry
