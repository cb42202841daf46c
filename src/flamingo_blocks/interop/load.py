"""A checkpoint of another implementation in, a Flamingo out: strict, and one tensor at a time."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.checkpoint_files import Checkpoint, ForeignCheckpoint, open_checkpoint
from flamingo_blocks.interop.families import check_family, detect_family, find_family
from flamingo_blocks.interop.key_map import GIVEN, Entry, Family, Plan, Shapes
from flamingo_blocks.interop.planned_shapes import other_shapes, parts_on_meta
from flamingo_blocks.lm.find_layers import find_decoder_layers, layer_device
from flamingo_blocks.models import Flamingo


def load_foreign(
    checkpoint: Checkpoint | ForeignCheckpoint,
    *,
    family: str | None = None,
    lm: nn.Module | None = None,
    vision: nn.Module | None = None,
    leave_out: Sequence[str] = (),
    **options: Any,
) -> Flamingo:
    """Load a checkpoint of another implementation.

    Sizes are read off its tensors. Loading is strict: each tensor finds its place or is named in the error. Weights of
    the language model and of the tower that the checkpoint holds are copied into `lm` and `vision`, in the dtype that
    these have: what that cannot hold is rounded, and comes back rounded. All others keep the checkpoint's dtype, each
    block on the device of its layer.

    Load first, then offload, quantise or shard: weights that are not in memory, or are not plain numbers, cannot be
    copied into, and are refused.

    Args:
        checkpoint: A file, a folder, or tensors by name; see `open_checkpoint`.
        family: `"open_flamingo"`, `"otter"`, `"flamingo_mini"`, `"flamingo_pytorch"`, `"idefics"` or `"mllama"`; found
            by the names of the tensors by default.
        lm: The plain language model that the checkpoint was trained around; `idefics_parts` and `mllama_parts` build
            those of IDEFICS and of Llama 3.2 Vision, with the tower.
        vision: The tower; without it the model takes `features`.
        leave_out: Beginnings of names that are not wanted, such as `("vision_encoder.",)`.
        **options: Those of the family; see `docs/reference/interop.md`.

    Returns:
        The model, in eval mode.

    Raises:
        CheckpointError: If the checkpoint is damaged, of another family, incomplete, holds what is not known, or does
            not fit `lm` or `vision`. Neither is changed then.
        ValueError: If `lm` is missing, `family` or an option is unknown, or `leave_out` names what is trained.
        Exception: If a tensor cannot be read after all (a disk that fails): hooks, modes and `requires_grad` of `lm`
            and `vision` are as they were, but their weights that were copied before stay copied. What was trained is
            read first.

    Example:
        >>> from flamingo_blocks.interop import export_foreign
        >>> from flamingo_blocks.models import PaperLanguageModel
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> checkpoint = tiny_open_flamingo(vocab_size=10, dim=8, depth=2)
        >>> lm = PaperLanguageModel(vocab_size=10, dim=8, depth=2, num_heads=2)
        >>> flamingo = load_foreign(checkpoint, lm=lm)
        >>> list(flamingo.blocks), flamingo.media_token_id
        (['1'], 11)
    """
    opened = checkpoint if isinstance(checkpoint, ForeignCheckpoint) else open_checkpoint(checkpoint)
    plan = plan_foreign(opened, family=family, lm=lm, vision=vision, leave_out=leave_out, **options)
    assert lm is not None  # `plan_foreign` asks for one
    _check_tensors(opened, plan.entries)
    before = _state_of((lm, vision))
    try:
        flamingo = _build(opened, plan, lm, vision)
    except ValueError as error:  # parts whose widths or ids do not fit each other
        raise CheckpointError(f"{opened.where} does not fit what it is loaded around: {error}") from error
    try:
        _check_parts(opened, plan, flamingo)
        _fill(opened, plan.entries, flamingo)
    except BaseException:  # give the parts back as they came, also when it is interrupted
        flamingo.detach()
        _restore(before)
        raise
    return flamingo.eval()


def plan_foreign(
    opened: ForeignCheckpoint,
    *,
    family: str | None = None,
    lm: nn.Module | None = None,
    vision: nn.Module | None = None,
    leave_out: Sequence[str] = (),
    **options: Any,
) -> Plan:
    """Say what `load_foreign` would do, without doing it; the arguments are the same.

    Args:
        opened: What `open_checkpoint` gave.
        family: See `load_foreign`.
        lm: Likewise.
        vision: Likewise.
        leave_out: Likewise.
        **options: Likewise.

    Returns:
        The plan: each tensor of the checkpoint has its place in it.

    Raises:
        CheckpointError: If the checkpoint does not fit.
        ValueError: If an option is unknown, or `lm` is missing.

    Example:
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> from flamingo_blocks.models import PaperLanguageModel
        >>> lm = PaperLanguageModel(vocab_size=32, dim=16, depth=2, num_heads=2)
        >>> plan_foreign(open_checkpoint(tiny_open_flamingo()), lm=lm).blocks[1]["activation"]
        'gelu'
    """
    shapes = opened.shapes
    found = detect_family(shapes) if family is None else find_family(family)
    if lm is None:
        parts = f"{found.name}_parts(folder)"
        built = f": load_foreign(folder, **{parts})" if found.name in ("idefics", "mllama") else ""
        raise ValueError(f"lm is missing; pass the plain language model that {found.name} was trained around{built}")
    plan = make_plan(found, shapes, lm=lm, vision=vision, leave_out=leave_out, options=options)
    _check_names(opened, plan)
    return plan


def make_plan(
    family: Family,
    shapes: Shapes,
    *,
    lm: nn.Module,
    vision: nn.Module | None = None,
    leave_out: Sequence[str],
    options: Mapping[str, Any],
) -> Plan:
    """The family's plan for a checkpoint; what is left out is kept for the way back.

    Args:
        family: Whose checkpoint it is.
        shapes: Its shapes.
        lm: The plain language model.
        vision: The tower.
        leave_out: Beginnings of names that are not wanted.
        options: Those of the family.

    Returns:
        The plan.

    Raises:
        CheckpointError: If it is no checkpoint of this family.
        ValueError: If nothing begins so, what is trained does, or an option is unknown.
    """
    out = left_out(shapes, leave_out)
    check_family(family, shapes)
    check_option_names(family, family.plan, options)
    plan = family.plan(
        {name: shape for name, shape in shapes.items() if name not in out}, lm=lm, vision=vision, **options
    )
    entries = entries_without(plan.entries, leave_out)
    return replace(plan, entries=entries, kept={**plan.kept, **dict.fromkeys(sorted(out), "left out")})


def left_out(shapes: Shapes, leave_out: Sequence[str]) -> set[str]:
    """Names of a checkpoint that are not wanted.

    Args:
        shapes: Of the checkpoint.
        leave_out: Beginnings of these names.

    Raises:
        ValueError: If nothing begins so.
    """
    left = {start: {name for name in shapes if name.startswith(start)} for start in leave_out}
    if nothing := [start for start, names in left.items() if not names]:
        raise ValueError(f"leave_out has {nothing[0]!r}, but no tensor of the checkpoint begins so")
    return set().union(*left.values())


def entries_without(entries: Iterable[Entry], leave_out: Sequence[str]) -> list[Entry]:
    """The entries that are left when names with these beginnings are not wanted.

    Raises:
        ValueError: If what was trained begins so.
    """
    return [rest for entry in entries if (rest := _without(entry, leave_out)) is not None]


def check_option_names(family: Family, way: Callable[..., Any], options: Iterable[str]) -> None:
    """Refuse options that a family does not have on one of its two ways.

    Args:
        family: The family.
        way: Its `plan` or its `entries`.
        options: Names of the options given.

    Raises:
        ValueError: Naming an unknown one, and those that it has.
    """
    known = inspect.signature(way).parameters
    if unknown := [option for option in options if option not in known]:
        wanted = ", ".join(name for name in known if name not in ("shapes", "lm", "vision", "flamingo")) or "none"
        raise ValueError(f"{family.name} has no option {unknown[0]!r}; its options are {wanted}")


def _without(entry: Entry, leave_out: Sequence[str]) -> Entry | None:
    """The entry with the names that are wanted; `None` if there are none, which only the caller's parts can bear."""
    names = [name for name in entry.names if not name.startswith(tuple(leave_out))]
    if names:
        return replace(entry, foreign=names[0], aliases=tuple(names[1:]))
    if trained := [ours for ours in entry.ours if not ours.startswith(GIVEN)]:
        raise ValueError(
            f"leave_out has {next(start for start in leave_out if entry.foreign.startswith(start))!r}, with which "
            f"{entry.foreign} begins; but that is {trained[0]} of the model, which comes from nowhere else"
        )
    return None


def _build(opened: ForeignCheckpoint, plan: Plan, lm: nn.Module, vision: nn.Module | None) -> Flamingo:
    """The model, with memory for its new parts but no values: all of them come from the checkpoint, in its dtypes."""
    parts = parts_on_meta(plan)
    blocks = {layer: parts[f"blocks.{layer}"] for layer in plan.blocks}
    resampler, projection = parts.get("resampler"), parts.get("projection")
    dtypes = _dtypes(opened, plan.entries)
    for name, part in parts.items():
        for key, weight in part.named_parameters(prefix=name):
            weight.data = weight.data.to(dtypes.get(key, weight.dtype))
    decoder = find_decoder_layers(lm, plan.flamingo.get("layers"))
    for layer, block in blocks.items():
        block.to_empty(device=_device_of(decoder.layers[layer], lm))
    for between in (resampler, projection):
        if between is not None:
            between.to_empty(device=_device_of(vision, lm))
    arguments: dict[str, Any] = {"vision": vision, **plan.flamingo}
    return Flamingo(lm=lm, blocks=blocks, resampler=resampler, projection=projection, **arguments)


def _dtypes(opened: ForeignCheckpoint, entries: Iterable[Entry]) -> dict[str, torch.dtype]:
    """Dtypes by our names, of tensors that are weights as they stand: no quantised one becomes the dtype of a part."""
    held = {entry: next(iter(_names_held(opened, entry)), None) for entry in entries}
    found = {ours: opened.tensors[name].dtype for entry, name in held.items() if name for ours in entry.ours}
    return {ours: dtype for ours, dtype in found.items() if dtype.is_floating_point and dtype.itemsize > 1}


def _device_of(*parts: nn.Module | None) -> torch.device:
    """Where the first of these that has a device computes."""
    devices = (layer_device(part) for part in parts if isinstance(part, nn.Module))
    return next((device for device in devices if device is not None), torch.device("cpu"))


def _check_names(opened: ForeignCheckpoint, plan: Plan) -> None:
    """Each tensor of the checkpoint has one place."""
    if unknown := unknown_names(opened, plan):
        raise CheckpointError(
            f"{opened.where} holds {len(unknown)} tensors that are not known: {_some(unknown)}; "
            "is it of another family, or was it made around another language model?"
        )
    if missing := missing_names(opened, plan):
        raise CheckpointError(f"{opened.where} lacks {len(missing)} tensors: {_some(missing)}")


def unknown_names(opened: ForeignCheckpoint, plan: Plan) -> list[str]:
    """Names of the checkpoint that have no place in the plan."""
    places = Counter(name for entry in plan.entries for name in entry.names)
    twice = [name for name, count in places.items() if count > 1 or name in plan.kept]
    assert not twice, f"the key map has two places for {twice[:3]}"
    return [name for name in opened.tensors if name not in places and name not in plan.kept]


def missing_names(opened: ForeignCheckpoint, plan: Plan) -> list[str]:
    """Names that the plan wants under any spelling, and the checkpoint has under none."""
    return [entry.foreign for entry in plan.entries if not _names_held(opened, entry)]


def _check_tensors(opened: ForeignCheckpoint, entries: Iterable[Entry]) -> None:
    """Names of one tensor hold one tensor, and what has no place here is zero."""
    for entry in entries:
        first, *others = _names_held(opened, entry)
        for other in others:
            if not torch.equal(opened.read(first), opened.read(other)):
                raise CheckpointError(
                    f"{first} and {other} differ in {opened.where}, but are one tensor in the model; "
                    "the checkpoint was put together from two"
                )
        if not entry.ours and opened.read(first).any():
            raise CheckpointError(
                f"{first} is added to what our blocks have no place for, and is not zero; without it, "
                f"leave_out=({first!r},), the model computes something else"
            )


def _check_parts(opened: ForeignCheckpoint, plan: Plan, flamingo: Flamingo) -> None:
    """Each tensor of ours has one source, of its shape."""
    state = flamingo.state_dict(keep_vars=True)
    sources = {name for entry in plan.entries for name in entry.ours}
    if absent := sorted(sources - state.keys()):
        raise CheckpointError(f"{opened.where} has tensors for {_some(absent)}, which the model given does not have")
    filled = {id(state[name]) for name in sources}
    wanted = (name for name in state if not name.startswith(GIVEN) and name not in plan.fresh)
    missing = [name for name in wanted if id(state[name]) not in filled]
    if missing:
        raise CheckpointError(f"{opened.where} has no tensors for {_some(missing)} of the model that it describes")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, wanted_shape, entry in other_shapes(opened, plan.entries, shapes):
        parts = ", ".join(f"{ours} {shapes[ours]}" for ours in entry.ours)
        raise CheckpointError(
            f"{name} has shape {opened.shapes[name]} in {opened.where}, wanted {wanted_shape} for {parts}"
        )
    for entry in plan.entries:
        for ours in entry.ours:
            if reason := _cannot_take(state[ours], opened.tensors[_names_held(opened, entry)[0]].dtype):
                raise CheckpointError(f"{entry.foreign} of {opened.where} cannot be copied into {ours}: {reason}")


def _cannot_take(place: Tensor, dtype: torch.dtype) -> str | None:
    """Why copying would lose the tensor, or more of it than a dtype of fewer digits does."""
    if place.is_meta:
        return "that is not in memory (offloaded, or on the meta device); load first, then offload"
    if type(place) not in (Tensor, nn.Parameter):
        return f"that is a {type(place).__name__}; load first, then quantise or shard"
    kinds = (place.dtype, dtype)
    floats = [kind for kind in kinds if kind.is_floating_point]
    if place.dtype != dtype and (len(floats) == 1 or any(kind.itemsize == 1 for kind in floats)):
        return f"that is of {place.dtype}, the tensor of {dtype}; load what is not quantised, then quantise"
    return None


@torch.no_grad()
def _fill(opened: ForeignCheckpoint, entries: Iterable[Entry], flamingo: Flamingo) -> None:
    """Write every tensor, file after file: what is new first, then the caller's parts, which stay as they become."""
    state = flamingo.state_dict(keep_vars=True)
    first = {entry: _names_held(opened, entry)[0] for entry in entries}

    def order(pair: tuple[Entry, str]) -> tuple[bool, str]:
        return any(ours.startswith(GIVEN) for ours in pair[0].ours), opened.tensors[pair[1]].shard

    for entry, name in sorted(first.items(), key=order):
        tensor = opened.read(name)
        for ours, part in zip(entry.ours, entry.split(tensor, [state[ours].shape for ours in entry.ours]), strict=True):
            place: Tensor = state[ours]
            if ours.startswith(GIVEN) or place.dtype == part.dtype:
                place.copy_(part)
            else:
                place.data = part.to(place.device).clone()


def _names_held(opened: ForeignCheckpoint, entry: Entry) -> list[str]:
    return [name for name in entry.names if name in opened.tensors]


def _state_of(parts: Iterable[nn.Module | None]) -> list[tuple[Any, str, bool]]:
    """What building a Flamingo changes in the caller's parts, which a failed load must not."""
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    flags = [(weight, "requires_grad", weight.requires_grad) for module in modules for weight in module.parameters()]
    return flags + [(module, "training", module.training) for module in modules]


def _restore(before: Iterable[tuple[Any, str, bool]]) -> None:
    for owner, name, value in before:
        setattr(owner, name, value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
