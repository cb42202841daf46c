"""Weights of the language model and of the tower that a checkpoint holds besides what was trained."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.key_map import Entry, Shapes
from flamingo_blocks.lm.token_rows import find_pair

# Heads that were renamed between versions of transformers.
_OTHER_HEADS = {"embed_out.weight": "lm_head.weight", "lm_head.weight": "embed_out.weight"}
# What language models of 2023 saved, and those of today make themselves.
_CONSTANTS = (
    (re.compile(r"(^|\.)inv_freq$"), 1, "rotary frequencies, which the language model makes itself"),
    (re.compile(r"(^|\.)att(ention|n)\.bias$"), 4, "a causal mask, which the language model makes itself"),
    (re.compile(r"(^|\.)att(ention|n)\.masked_bias$"), 0, "a mask's value, which the language model makes itself"),
)
_POSITION_IDS = "embeddings.position_ids"


@dataclass(frozen=True)
class FrozenPart:
    """What a checkpoint holds of the language model.

    Args:
        entries: One for each tensor.
        kept: Constants that the language model makes itself, with what they are.
        num_new_tokens: Rows beyond the table of the language model.
        fresh: Rows of ours that the checkpoint does not hold.
    """

    entries: list[Entry]
    kept: dict[str, str] = field(default_factory=dict)
    num_new_tokens: int = 0
    fresh: frozenset[str] = frozenset()


def table_and_head(
    lm: nn.Module, *, embedding: str | None = None, head: str | None = None
) -> tuple[str | None, str | None]:
    """Names in `lm.state_dict()` of the token embedding and of the output projection's weight; equal ids when tied."""
    try:
        table, output = find_pair(lm, embedding, head)
    except ValueError:
        return None, None
    state = lm.state_dict(keep_vars=True)
    names = dict(lm.named_modules(remove_duplicate=False))
    of_table = next((f"{name}.weight" for name, module in names.items() if module is table), None)
    of_head = next((f"{name}.weight" for name, module in names.items() if module is output), None)
    return (of_table if of_table in state else None), (of_head if of_head in state else None)


def language_model_entries(
    shapes: Shapes,
    held: Mapping[str, Sequence[str]],
    lm: nn.Module,
    *,
    layers: str,
    spell: Callable[[str], str],
    num_new_tokens: int | None = None,
    embedding: str | None = None,
    head: str | None = None,
) -> FrozenPart:
    """Entries of the language model's own weights, and of rows for new tokens beyond its table.

    A checkpoint with a weight of a decoder layer is one of the whole language model, and has to have all of it.
    Others hold what was trained, and what slips through the filter that takes the rest away: names with "embed" in
    them, and what is no parameter.

    Args:
        shapes: Of the checkpoint.
        held: Names in `lm.state_dict()`, and the names under which the checkpoint holds each.
        lm: The plain language model.
        layers: Dotted name of its decoder layers.
        spell: Gives the name in the checkpoint of one in `lm.state_dict()`.
        num_new_tokens: Told by the table by default.
        embedding: Dotted name of the token embedding, where it cannot be found.
        head: Dotted name of the output projection, likewise.

    Returns:
        The entries.

    Raises:
        CheckpointError: If the table is smaller than that of `lm`, or missing.
    """
    state = lm.state_dict(keep_vars=True)
    table, output = table_and_head(lm, embedding=embedding, head=head)
    tied = table is not None and output is not None and state[table] is state[output]
    by_ours: dict[str, list[str]] = {}
    kept = {}
    for name, foreign in held.items():
        ours = name if name in state else _OTHER_HEADS.get(name, name)
        if ours in state:
            ours = table if tied and ours == output and table is not None else ours
            by_ours.setdefault(ours, []).extend(foreign)
        elif reason := _constant(name, shapes[foreign[0]]):
            kept.update(dict.fromkeys(foreign, reason))
    trained = {name for name, _ in lm.named_parameters() if name.startswith(f"{layers}.") and "embed" not in name}
    if trained & by_ours.keys():
        by_ours |= {name: [spell(name)] for name in _others(state, by_ours)}
    if table in by_ours:
        num_new_tokens = _count_new_rows(shapes, by_ours[table], state[table].shape[0], num_new_tokens)
    rows = {table: "token_rows.input", output: "token_rows.output"} if num_new_tokens else {}
    entries = []
    for ours, names in by_ours.items():
        parts = (f"lm.{ours}", rows[ours]) if ours in rows else (f"lm.{ours}",)
        entries.append(Entry(names[0], parts, aliases=tuple(names[1:])))
    filled = {part for entry in entries for part in entry.ours}
    if tied and "token_rows.input" in filled:
        filled.add("token_rows.output")
    fresh = frozenset({"token_rows.input", "token_rows.output"} - filled) if num_new_tokens else frozenset()
    return FrozenPart(entries, kept, num_new_tokens or 0, fresh)


def vision_entries(shapes: Shapes, prefix: str, vision: nn.Module | None) -> list[Entry]:
    """Entries of a tower's weights: `vision` is the module itself, or holds it as a child.

    Args:
        shapes: Of the checkpoint.
        prefix: What stands before the tower's names in it.
        vision: The tower.

    Returns:
        The entries, of all its weights; none where the checkpoint holds no tower.

    Raises:
        CheckpointError: If `vision` is missing, or has other weights.
    """
    constants = vision_constants(shapes, prefix)
    held = [name.removeprefix(prefix) for name in shapes if name.startswith(prefix) and name not in constants]
    if not held:
        return []
    if not isinstance(vision, nn.Module):
        raise CheckpointError(
            f"the checkpoint holds {len(held)} tensors of a vision tower ({prefix}{held[0]}, ...); pass it as vision=, "
            f"or leave them out with leave_out=({prefix!r},)"
        )
    state = vision.state_dict(keep_vars=True)
    for outer in _outer_names(held):  # a model that was wrapped once more when it was saved
        first = held[0].removeprefix(outer)
        for inside in sorted({name.removesuffix(first) for name in state if name.endswith(first)}, key=len):
            ours = [inside + name.removeprefix(outer) for name in held]
            if all(name in state for name in ours):
                lost = [name for name in _others(state, ours) if name.startswith(inside)]
                held += [outer + name.removeprefix(inside) for name in lost]
                return [Entry(prefix + name, (f"vision.{own}",)) for name, own in zip(held, ours + lost, strict=True)]
    raise CheckpointError(
        f"the checkpoint holds the weights {prefix}{held[0]}, ... of a vision tower, which {type(vision).__name__} "
        f"does not have; its own are {sorted(state)[:3]}"
    )


def vision_constants(shapes: Shapes, prefix: str) -> dict[str, str]:
    """Position numbers that towers of 2023 saved, with what they are."""
    reason = "position numbers, which the tower makes itself"
    return {name: reason for name in shapes if name.startswith(prefix) and name.endswith(_POSITION_IDS)}


def _others(state: Mapping[str, Tensor], held: Collection[str]) -> list[str]:
    """Names of a module's tensors that are none of those held, constants aside; a tensor of two names counts once."""
    seen = {id(state[name]) for name in held}
    others: dict[int, str] = {}
    for name, tensor in state.items():
        if id(tensor) not in seen and not name.endswith(_POSITION_IDS) and not _constant(name, tensor.shape):
            others.setdefault(id(tensor), name)
    return list(others.values())


def _outer_names(names: Sequence[str]) -> list[str]:
    """Nothing, and the first segments that all names share."""
    outer = [""]
    while len(shared := {name.removeprefix(outer[-1]).partition(".")[0] for name in names}) == 1:
        outer.append(f"{outer[-1]}{shared.pop()}.")
        if any(name + "." == outer[-1] for name in names):
            return outer[:-1]
    return outer


def vision_entries_of(vision: object, prefix: str) -> list[Entry]:
    """Entries of all weights of a tower; ours hold the module itself as their only child."""
    if not isinstance(vision, nn.Module):
        return []
    children = [name for name, _ in vision.named_children()]
    ours = type(vision).__module__.startswith("flamingo_blocks.") and len(children) == 1
    inside = f"{children[0]}." if ours else ""
    return [Entry(prefix + name.removeprefix(inside), (f"vision.{name}",)) for name in vision.state_dict()]


def _count_new_rows(shapes: Shapes, names: Sequence[str], own: int, wanted: int | None) -> int:
    name = next((name for name in names if name in shapes), None)
    if name is None:
        raise CheckpointError(f"the checkpoint lacks {names[0]}, though it holds layers of the language model")
    rows = shapes[name][0] - own if shapes[name] else -own
    if rows < 0 or (wanted is not None and rows != wanted):
        rest = "" if wanted is None else f", of which {wanted} are to be new"
        raise CheckpointError(
            f"{name} has {own + rows} rows{rest}, but the table of lm has {own}; give lm the rows the checkpoint was "
            f"trained with: lm.resize_token_embeddings({own + rows - (wanted or 0)})"
        )
    return rows


def _constant(name: str, shape: Sequence[int]) -> str | None:
    found = (reason for pattern, ndim, reason in _CONSTANTS if pattern.search(name) and len(shape) == ndim)
    return next(found, None)
