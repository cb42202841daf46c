"""The names that open_flamingo, Otter and flamingo-pytorch share, and the sizes read off their shapes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.key_map import Entry, Shapes
from flamingo_blocks.nn.presets import block_preset, resampler_preset

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

Scope = Literal["last", "all"]  # the two modes of `only_attend_immediate_media`, which no tensor tells
Names = dict[str, tuple[str, ...]]  # names inside a foreign module to ours inside our module

BLOCK: Names = {
    "attn_gate": ("attention_gate.gate",),
    "ff_gate": ("feed_forward_gate.gate",),
    "attn.norm.weight": ("attention.norm.weight",),
    "attn.norm.bias": ("attention.norm.bias",),
    "attn.to_q.weight": ("attention.q_proj.weight",),
    "attn.to_kv.weight": ("attention.k_proj.weight", "attention.v_proj.weight"),
    "attn.to_out.weight": ("attention.o_proj.weight",),
    "ff.0.weight": ("feed_forward.norm.weight",),
    "ff.0.bias": ("feed_forward.norm.bias",),
    "ff.1.weight": ("feed_forward.up_proj.weight",),
    "ff.3.weight": ("feed_forward.down_proj.weight",),
}
RESAMPLER_LAYER: Names = {
    "0.norm_media.weight": ("features_norm.weight",),
    "0.norm_media.bias": ("features_norm.bias",),
    "0.norm_latents.weight": ("latents_norm.weight",),
    "0.norm_latents.bias": ("latents_norm.bias",),
    "0.to_q.weight": ("q_proj.weight",),
    "0.to_kv.weight": ("k_proj.weight", "v_proj.weight"),
    "0.to_out.weight": ("o_proj.weight",),
    "1.0.weight": ("feed_forward.norm.weight",),
    "1.0.bias": ("feed_forward.norm.bias",),
    "1.1.weight": ("feed_forward.up_proj.weight",),
    "1.3.weight": ("feed_forward.down_proj.weight",),
}
RESAMPLER: Names = {
    "latents": ("latents",),
    "norm.weight": ("final_norm.weight",),
    "norm.bias": ("final_norm.bias",),
}


@dataclass(frozen=True)
class Spelling:
    """How one implementation spells the parts of block and resampler.

    Args:
        block: Names inside a block.
        layer: Names inside a layer of the resampler.
        resampler: Names beside its layers.
        frames: Name of the frame embeddings.
        frames_axis: Whether these have an axis of one in the middle.
        frames_always: Whether every resampler has them.
    """

    block: Names
    layer: Names
    resampler: Names
    frames: str = "frame_embs"
    frames_axis: bool = False
    frames_always: bool = False

    def of_block(self, ours: str) -> str:
        """Their name of one of our block's tensors."""
        return next(name for name, parts in self.block.items() if ours in parts)

    def of_layer(self, ours: str) -> str:
        """Their name of a tensor of a resampler layer."""
        return next(name for name, parts in self.layer.items() if ours in parts)


OPEN_FLAMINGO = Spelling(BLOCK, RESAMPLER_LAYER, RESAMPLER)


def block_arguments(
    shapes: Shapes, prefix: str, spelling: Spelling, *, num_heads: int | None, head_dim: int
) -> dict[str, Any]:
    """Arguments of a block, off its shapes."""
    query = prefix + spelling.of_block("attention.q_proj.weight")
    inner, dim = shape_of(shapes, query, ndim=2)
    _, vision_dim = shape_of(shapes, prefix + spelling.of_block("attention.v_proj.weight"), ndim=2)
    hidden_dim, _ = shape_of(shapes, prefix + spelling.of_block("feed_forward.up_proj.weight"), ndim=2)
    heads = heads_of(inner, head_dim, num_heads, query)
    return block_preset("open_flamingo", dim=dim, vision_dim=vision_dim, hidden_dim=hidden_dim, **heads)


def resampler_arguments(
    shapes: Shapes, prefix: str, spelling: Spelling, *, num_heads: int | None, head_dim: int, depth: int | None
) -> dict[str, Any]:
    """Arguments of the resampler, off its shapes; its depth may be told, and is compared then."""
    num_latents, dim = shape_of(shapes, f"{prefix}latents", ndim=2)
    depth = resampler_depth_of(shapes, f"{prefix}layers.", depth)
    query = f"{prefix}layers.0.{spelling.of_layer('q_proj.weight')}"
    inner, _ = shape_of(shapes, query, ndim=2)
    hidden, _ = shape_of(shapes, f"{prefix}layers.0.{spelling.of_layer('feed_forward.up_proj.weight')}", ndim=2)
    name = prefix + spelling.frames
    frames = shape_of(shapes, name, ndim=3) if spelling.frames_always else shapes.get(name, (0,))
    return resampler_preset(
        "open_flamingo", vision_dim=dim, dim=dim, num_latents=num_latents, depth=depth, max_frames=frames[0],
        ff_mult=ff_mult_of(hidden, dim), **heads_of(inner, head_dim, num_heads, query),
    )  # fmt: skip


def resampler_entries(prefix: str, spelling: Spelling, *, depth: int, max_frames: int, dim: int) -> list[Entry]:
    """Entries of a resampler of these sizes."""
    entries = entries_of(spelling.resampler, prefix, "resampler.")
    if max_frames:
        shape = (max_frames, 1, dim) if spelling.frames_axis else None
        entries.append(Entry(prefix + spelling.frames, ("resampler.frame_embeddings",), shape=shape))
    for layer in range(depth):
        entries += entries_of(spelling.layer, f"{prefix}layers.{layer}.", f"resampler.layers.{layer}.")
    return entries


def positions(shapes: Shapes, name: str) -> list[Entry]:
    """A learned position for each of a row's media, which the paper does not have, nor do we."""
    return [Entry(name, (), shape=shapes[name])] if name in shapes else []


def checked_scope(scope: str) -> str:
    """The scope, if it is one of the two modes.

    Raises:
        ValueError: If it is another.
    """
    if scope not in ("last", "all"):
        raise ValueError(f"scope is {scope!r}, wanted 'last', or 'all' for only_attend_immediate_media=False")
    return scope


def check_computes(
    flamingo: "Flamingo", *, family: str, head_dim: int, activation: str = "gelu", scope: str = "last"
) -> None:
    """Refuse to export what the family's code would compute otherwise.

    Raises:
        CheckpointError: Naming the option that the family does not have.
        ValueError: If `scope` is not one of the two modes.
    """
    wanted = {"scope": checked_scope(scope), "projection": None, "document_end_id": None, "predict_new_tokens": True}
    for argument, value in wanted.items():
        if (found := getattr(flamingo, argument)) != value:
            raise CheckpointError(f"this model has {argument}={found!r}, and {family} computes {argument}={value!r}")
    norms = {"norm": "layer_norm", "qk_norm": None}
    wanted = {**norms, "gate": "scalar", "dense_without_media": True, "activation": activation, "media_norm": False}
    for layer, block in flamingo.blocks.items():
        refuse_other_options(block, wanted, f"block {layer}", family, head_dim=head_dim)
    wanted = {**norms, "activation": activation, "final_norm": True}
    refuse_other_options(flamingo.resampler, wanted, "the resampler", family, head_dim=head_dim)
    if getattr(flamingo.resampler, "input_proj", None) is not None:
        raise CheckpointError(f"the resampler projects its input, and that of {family} does not")


def refuse_other_options(
    module: Any, wanted: dict[str, Any], what: str, family: str, *, head_dim: int | None = None
) -> None:
    """Refuse to export a part that the family's code would compute otherwise.

    Args:
        module: The part.
        wanted: Its options in the family's code.
        what: How the error calls the part.
        family: The family.
        head_dim: Width of a head, in a family whose norms have torch's own epsilon; both defaults are written out.

    Raises:
        CheckpointError: Naming the option.
    """
    config = getattr(module, "config", None)
    if not isinstance(config, dict):
        raise CheckpointError(f"{what} is a {type(module).__name__}, which {family} does not have")
    if head_dim is not None:
        wanted = {**wanted, "norm_eps": 1e-5, "head_dim": head_dim}
        found_head_dim = config["head_dim"] or config["dim"] // config["num_heads"]
        config = {**config, "norm_eps": config["norm_eps"] or 1e-5, "head_dim": found_head_dim}
    for option, value in wanted.items():
        if config[option] != value:
            raise CheckpointError(f"{what} has {option}={config[option]!r}, and {family} computes {option}={value!r}")


def renamed(names: Names, replacements: dict[str, str]) -> Names:
    """The same places under names of another spelling: beginnings are replaced, the first that fits."""
    result = {}
    for name, ours in names.items():
        start = next((start for start in replacements if name.startswith(start)), "")
        result[replacements.get(start, "") + name.removeprefix(start)] = ours
    return result


def entries_of(names: Names, prefix: str, ours: str, *, aliases: tuple[str, ...] = ()) -> list[Entry]:
    """Entries of one module: its foreign prefixes, the first preferred, and its name here."""
    return [
        Entry(prefix + name, tuple(ours + part for part in parts), aliases=tuple(alias + name for alias in aliases))
        for name, parts in names.items()
    ]


def indices(names: Iterable[str], prefix: str) -> list[int]:
    """The numbers that stand behind a prefix, sorted."""
    found = (name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix))
    return sorted({int(number) for number in found if number.isdecimal()})


def resampler_depth_of(shapes: Shapes, prefix: str, told: int | None) -> int:
    """How many layers the resampler has: a last one that is lost is told by nothing but what the caller says.

    Args:
        shapes: Of the checkpoint.
        prefix: What stands before the layers' numbers.
        told: How many there are to be, where it is known.

    Raises:
        CheckpointError: If there are more or fewer.
    """
    depth = len(indices(shapes, prefix))
    if told is not None and depth != told:
        raise CheckpointError(
            f"the checkpoint has {depth} layers of the resampler ({prefix}0, ...), wanted resampler_depth={told}; "
            "layers are missing, or the config is that of another model"
        )
    return depth


def shape_of(shapes: Shapes, *names: str, ndim: int | None = None) -> tuple[int, ...]:
    """The shape of a tensor that sizes are read off, under the first of its names that is there.

    Raises:
        CheckpointError: If it is not there, or has another number of axes.
    """
    for name in names:
        if name in shapes:
            if ndim is not None and len(shapes[name]) != ndim:
                raise CheckpointError(f"{name} has shape {shapes[name]}, wanted {ndim} axes")
            return shapes[name]
    raise CheckpointError(f"the checkpoint lacks {names[0]}" + "".join(f", and {name}" for name in names[1:]))


def heads_of(inner: int, head_dim: int, num_heads: int | None, name: str, *, of: str = "") -> dict[str, int]:
    """Heads and their width, which no shape tells apart.

    Args:
        inner: Width of all heads together.
        head_dim: Width of one.
        num_heads: How many there are, in place of `head_dim`.
        name: Of the tensor that has `inner` rows.
        of: What stands before the names of the two options.

    Raises:
        CheckpointError: If the width of all heads together is no multiple of theirs.
        ValueError: If the number that counts is below 1.
    """
    option, told = ("head_dim", head_dim) if num_heads is None else ("num_heads", num_heads)
    if told < 1:
        raise ValueError(f"{of}{option} is {told}, wanted a whole number above 0; omit {of}{option}= for the default")
    if inner % told:
        heads = f"some heads of {told}" if num_heads is None else f"{told} heads of one width"
        raise CheckpointError(f"{name} has {inner} rows, which are not {heads}; pass {of}num_heads= or {of}head_dim=")
    return {option: told, ("num_heads" if num_heads is None else "head_dim"): inner // told}


def check_heads_of_norms(inner: int, head_dim: int, num_heads: int | None, name: str, *, of: str = "") -> None:
    """Hold a number of heads that is told to the width of the norms over them, which the checkpoint holds.

    Args:
        inner: Width of all heads together.
        head_dim: Width of the norms.
        num_heads: How many heads the config or an option tells; `None` for neither.
        name: Of the norm's weight.
        of: What stands before the name of the option.

    Raises:
        CheckpointError: If another width follows from it.
    """
    if num_heads is not None and num_heads * head_dim != inner:
        raise CheckpointError(
            f"{name} is of width {head_dim}, so {inner // head_dim} heads make {inner}; {of}num_heads is {num_heads}, "
            "of the config or of what was passed: correct it there, or take the config of this checkpoint"
        )


def ff_mult_of(hidden: int, dim: int) -> float:
    """The `ff_mult` that gives this hidden width."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)
