"""What is in a checkpoint: family, sizes, gates, what is missing, and what it needs to run."""

import inspect
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.checkpoint_files import Checkpoint, ForeignCheckpoint, open_checkpoint
from flamingo_blocks.interop.families import check_family, detect_family, find_family
from flamingo_blocks.interop.key_map import Entry, Family, Outline, Outlined, Shapes
from flamingo_blocks.interop.load import (
    check_option_names,
    entries_without,
    left_out,
    make_plan,
    missing_names,
    unknown_names,
)
from flamingo_blocks.interop.planned_shapes import other_shapes, parts_on_meta, planned_shapes
from flamingo_blocks.models.check_parts import check_widths
from flamingo_blocks.models.describe_module import build_module, can_build
from flamingo_blocks.models.saving import CONFIG, FROZEN, TRAINED, is_of_transformers, read_config

_ATTENTION_GATE = re.compile(r"^(?P<block>blocks\.(?P<layer>\d+))\.attention_gate\.gate$")
_TABLES = (".embed_tokens.weight", ".embed_in.weight", ".wte.weight", ".token_emb.weight", ".embedding.weight")

_TOWERS = ("vision_encoder.", "flamingo.vision_encoder.", "img_encoder.", "model.vision_model.", "vision_model.")
_TRAINED_PARTS = ("blocks.", "resampler.", "projection.")


@dataclass
class Inspection:
    """What `inspect_checkpoint` found.

    Args:
        where: The checkpoint.
        family: Its family; `"flamingo_blocks"` for a folder of our own.
        num_tensors: How many tensors it holds.
        num_bytes: What they weigh.
        dtypes: Tensors of each dtype.
        parts: Numbers in each part, by the first word of its names.
        blocks: Arguments of a block by layer, where they can be told.
        resampler: Arguments of the resampler, likewise.
        gates: The tanh of both gates by layer of the language model, as `blocks`, attention first; a channel gate by
            its mean size.
        missing: Names that are not there and should be.
        unknown: Names that are there and are not known.
        misshapen: Tensors of another shape than the model would give them, both shapes said.
        needs: What it takes to run it beside what was given, in words.
        notes: What could not be told, and why.
        error: Why it cannot be loaded, or not around this language model; then names are not compared, so
            `missing`, `unknown` and `misshapen` tell nothing.

    Example:
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> found = inspect_checkpoint(tiny_open_flamingo(depth=4, every=2))
        >>> found.family, found.num_tensors, found.dtypes, found.error
        ('open_flamingo', 38, {'float32': 38}, None)
        >>> {layer: block["num_heads"] for layer, block in found.blocks.items()}
        {1: 8, 3: 8}
    """

    where: str
    family: str
    num_tensors: int
    num_bytes: int
    dtypes: dict[str, int]
    parts: dict[str, int]
    blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    resampler: dict[str, Any] | None = None
    gates: dict[int, tuple[float, float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None


def inspect_checkpoint(
    checkpoint: Checkpoint,
    *,
    family: str | None = None,
    lm: nn.Module | None = None,
    vision: nn.Module | None = None,
    leave_out: Sequence[str] = (),
    **options: Any,
) -> Inspection:
    """Look into a checkpoint of any family, or into a folder that `save_pretrained` wrote.

    No tensor is read but the gates.

    Args:
        checkpoint: See `open_checkpoint`.
        family: Its family; found by itself by default.
        lm: The language model it belongs to, on the meta device will do; with it every name and shape is compared.
        vision: The tower, likewise; without it the tower's names and shapes are not compared.
        leave_out: As in `load_foreign`.
        **options: Those of the family, as in `load_foreign`; without `lm` those that say what shapes do not, such as
            `head_dim`.

    Returns:
        What was found.

    Raises:
        CheckpointError: If the checkpoint cannot be opened, is of no family, or not of the one that is named; or if it
            is a folder of ours, and anything is passed beside it, or a file of it is missing; or a folder that
            `FlamingoForConditionalGeneration` wrote, which transformers loads.
        ValueError: If the family has no such option, or an option or `vision` does nothing without `lm`, which is
            missing; or if `leave_out` names nothing, or what is trained.

    Example:
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> found = inspect_checkpoint(tiny_open_flamingo(depth=4, every=2))
        >>> found.family, list(found.blocks), found.gates, found.missing
        ('open_flamingo', [1, 3], {1: (0.0, 0.0), 3: (0.0, 0.0)}, [])
    """
    if isinstance(checkpoint, str | Path) and is_ours(checkpoint):
        given = {"family": family, "lm": lm, "vision": vision, "leave_out": leave_out or None, **options}
        refuse_beside_ours(checkpoint, [name for name, value in given.items() if value is not None])
        return _inspect_own(Path(checkpoint))
    if isinstance(checkpoint, str | Path):
        refuse_form_of_transformers(checkpoint)
    opened = open_checkpoint(checkpoint)
    shapes = opened.shapes
    kind = detect_family(shapes) if family is None else check_family(find_family(family), shapes)
    check_option_names(kind, kind.plan, options)
    if lm is None:
        _refuse_without_lm(kind, [*options, *(["vision"] if vision is not None else [])])
    found = _count(opened, kind.name)
    if isinstance(kind, Outlined):
        outline = _add_outline(found, opened, kind, leave_out, options)
        if outline is not None:
            wanted = shapes.keys() - left_out(shapes, leave_out)
            found.needs = _needs(outline, {name: shapes[name] for name in wanted}, lm=lm, vision=vision)
    if lm is None:
        if not isinstance(kind, Outlined):
            found.needs.append(f"the config.json of its folder, which tells the parts of {kind.name}; or lm")
        if found.error is None:
            found.notes.append("names inside the language model were not compared: it was not given")
        return found
    beside = {"lm": lm} | ({} if vision is None else {"vision": vision})
    _add_plan(found, opened, kind, beside, leave_out, options)
    return found


def refuse_beside_ours(path: str | Path, names: Sequence[str]) -> None:
    """Refuse what a folder of ours would be looked into without.

    Args:
        path: Of the folder.
        names: Arguments that came beside it.

    Raises:
        CheckpointError: If there is one.

    Example:
        >>> try:
        ...     refuse_beside_ours("mine", ["lm", "every"])
        ... except CheckpointError as error:
        ...     print(error)
        mine is a folder of ours, which tells all by itself; omit lm=, every=
    """
    if names:
        needless = ", ".join(f"{name}=" for name in names)
        raise CheckpointError(f"{path} is a folder of ours, which tells all by itself; omit {needless}")


def refuse_form_of_transformers(path: str | Path) -> None:
    """Say of a Flamingo that was saved in transformers' form how it is loaded.

    Args:
        path: Of a file or folder.

    Raises:
        CheckpointError: If it is such a folder.

    Example:
        >>> refuse_form_of_transformers("checkpoint.pt")
    """
    if not is_ours(path) and is_of_transformers(Path(path)):
        read_config(Path(path))  # names the form, and the way


def is_ours(path: str | Path) -> bool:
    """Whether a folder was written by `save_pretrained`.

    Args:
        path: A file or folder.

    Example:
        >>> is_ours("checkpoint.pt")
        False
    """
    return (Path(path) / CONFIG).is_file()


def _count(opened: ForeignCheckpoint, family: str) -> Inspection:
    """What can be counted without knowing any name."""
    facts = opened.tensors
    dtypes = Counter(str(found.dtype).removeprefix("torch.") for found in facts.values())
    parts: Counter[str] = Counter()
    for name, found in facts.items():
        parts[name.partition(".")[0]] += math.prod(found.shape)
    num_bytes = sum(math.prod(found.shape) * found.dtype.itemsize for found in facts.values())
    wrapped = sum(name != found.name for name, found in facts.items())
    notes = [f"{wrapped} names had prefixes of wrappers, which are read without"] if wrapped else []
    return Inspection(opened.where, family, len(facts), num_bytes, dict(dtypes), dict(parts), notes=notes)


def _gates(opened: ForeignCheckpoint, entries: Iterable[Entry]) -> dict[int, tuple[float, float]]:
    """The tanh of both gates by layer, as the entries have it: some families number blocks on their own."""
    held = {ours: name for entry in entries for ours in entry.ours for name in entry.names if name in opened.tensors}
    gates: dict[int, tuple[float, float]] = {}
    for attention, name in held.items():
        found = _ATTENTION_GATE.match(attention)
        if found and (dense := held.get(f"{found['block']}.feed_forward_gate.gate")):
            gates[int(found["layer"])] = _opening(opened.read(name)), _opening(opened.read(dense))
    return dict(sorted(gates.items()))


def _opening(gate: Tensor) -> float:
    opening = gate.to(torch.float32).tanh()
    return round(float(opening if opening.numel() == 1 else opening.abs().mean()), 4)


def _check_widths(opened: ForeignCheckpoint, parts: dict[str, nn.Module], beside: dict[str, nn.Module]) -> None:
    """As a Flamingo of these parts does when it is built."""
    blocks = {int(name.removeprefix("blocks.")): part for name, part in parts.items() if name.startswith("blocks.")}
    between = {name: part for name, part in parts.items() if not name.startswith("blocks.")}
    try:
        check_widths(blocks=blocks, **beside, **between)
    except ValueError as error:
        raise CheckpointError(f"{opened.where} does not fit what it is loaded around: {error}") from error


def _misshapen(opened: ForeignCheckpoint, entries: Iterable[Entry], shapes: Shapes) -> list[str]:
    return [
        f"{name}: shape {opened.tensors[name].shape}, wanted {wanted}"
        for name, wanted, _ in other_shapes(opened, entries, shapes)
    ]


def _refuse_without_lm(family: Family, given: Sequence[str]) -> None:
    """What is not asked without a language model is not passed over."""
    used = inspect.signature(family.outline).parameters if isinstance(family, Outlined) else {}
    if idle := [name for name in given if name not in used]:
        name = "vision" if idle[0] == "vision" else f"option {idle[0]}"
        raise ValueError(f"{name}= of {family.name} needs lm=, without which it does nothing; pass lm=, or omit it")


def _add_outline(
    found: Inspection, opened: ForeignCheckpoint, family: Outlined, leave_out: Sequence[str], options: dict[str, Any]
) -> Outline | None:
    """What the checkpoint tells by itself; the error, where it cannot."""
    out = left_out(opened.shapes, leave_out)
    shapes = {name: shape for name, shape in opened.shapes.items() if name not in out}
    used = inspect.signature(family.outline).parameters
    try:
        outline = family.outline(shapes, **{name: value for name, value in options.items() if name in used})
        model = planned_shapes(parts_on_meta(outline))
    except CheckpointError as error:
        found.error = str(error)
        return None
    outline = replace(outline, entries=entries_without(outline.entries, leave_out))
    found.blocks, found.resampler = outline.blocks, outline.resampler
    found.gates = _gates(opened, outline.entries)
    found.missing, found.unknown = outline.missing(shapes), outline.unknown(shapes)
    found.misshapen = _misshapen(opened, outline.entries, model)
    return outline


def _add_plan(
    found: Inspection,
    opened: ForeignCheckpoint,
    family: Family,
    beside: dict[str, nn.Module],
    leave_out: Sequence[str],
    options: dict[str, Any],
) -> None:
    """What the checkpoint tells beside a language model, and a tower; the error, where it does not fit them."""
    shapes, towers = opened.shapes, []
    if "vision" not in beside:
        towers = [prefix for prefix in _TOWERS if any(name.startswith(prefix) for name in shapes)]
    options = {"media_token_id": 0, **options}
    try:
        plan = make_plan(family, shapes, **beside, leave_out=(*leave_out, *towers), options=options)
        parts = parts_on_meta(plan)
        _check_widths(opened, parts, beside)
    except CheckpointError as error:
        found.error = str(error)
        found.missing, found.unknown, found.misshapen = [], [], []
        return
    found.error, found.blocks, found.resampler = None, plan.blocks, plan.resampler
    found.gates = _gates(opened, plan.entries)
    found.missing, found.unknown = missing_names(opened, plan), unknown_names(opened, plan)
    found.misshapen = _misshapen(opened, plan.entries, planned_shapes({**parts, **beside}, plan=plan))
    found.notes += [f"{count} tensors: {reason}" for reason, count in Counter(plan.kept.values()).items()]


def _needs(outline: Outline, shapes: Shapes, *, lm: nn.Module | None, vision: nn.Module | None) -> list[str]:
    """A language model and a tower, where they were not given; a tower also where nothing holds its weights."""
    found, width = [], next(iter(outline.blocks.values()))["dim"]
    rows = [shape[0] for name, shape in shapes.items() if f".{name}".endswith(_TABLES) and shape[1:] == (width,)]
    if lm is None:
        found.append(
            f"a language model of width {width} with {max(outline.blocks) + 1} layers or more"
            + (f", at {outline.layers!r}" if outline.layers else "")
            + (f", and a table of {rows[0]} rows or fewer" if rows else "")
        )
    inside = any(name.startswith(_TOWERS) for name in shapes)
    if outline.resampler is not None and not (vision is not None and inside):
        width = outline.resampler["vision_dim"]
        found.append(f"a vision tower of width {width}" + (", whose weights it holds" if inside else ""))
    return found


def _inspect_own(folder: Path) -> Inspection:
    """A folder of ours: its config tells all but the gates."""
    config = read_config(folder)
    opened = open_checkpoint(folder / TRAINED)
    if config["frozen"] == "include":
        if not (folder / FROZEN).is_file():
            raise CheckpointError(
                f"{folder / FROZEN} is missing; the folder was not saved to its end, or a file was lost"
            )
        open_checkpoint(folder / FROZEN)
    found = _count(opened, "flamingo_blocks")
    found.where, found.gates = str(folder), _gates(opened, [Entry(name, (name,)) for name in opened.tensors])
    with torch.device("meta"):
        expected = _expected_names(config)
    held = [name for name in opened.tensors if name.startswith(tuple(_TRAINED_PARTS))]
    built = {name.partition(".")[0] for name in expected}
    found.missing = sorted(expected - set(held))
    found.unknown = [name for name in held if name.partition(".")[0] in built and name not in expected]
    found.blocks = {int(layer): block.get("arguments", {}) for layer, block in config["blocks"].items()}
    found.resampler = (config["resampler"] or {}).get("arguments")
    included = config["frozen"] == "include"
    for part in ("lm", "vision"):
        if (described := config[part]) is not None:
            own = included and can_build(described)
            found.needs.append(
                f"{part}: {described['class']}" + (" (built from this folder)" if own else f", passed as {part}=")
            )
    return found


def _expected_names(config: dict[str, Any]) -> set[str]:
    """Names of the tensors of all parts that can be built from the config."""
    parts = {f"blocks.{layer}": block for layer, block in config["blocks"].items()}
    parts |= {name: config[name] for name in ("resampler", "projection") if config[name] is not None}
    return {
        f"{name}.{key}"
        for name, described in parts.items()
        if can_build(described)
        for key in build_module(described, argument=name).state_dict()
    }
