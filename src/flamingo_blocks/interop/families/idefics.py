"""IDEFICS, the first generation: checkpoints of `IdeficsForVisionText2Text`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.families._block_layers import checked_distance, common_step
from flamingo_blocks.interop.families._frozen_parts import table_and_head
from flamingo_blocks.interop.families._llama_layers import (
    LLAMA_BLOCK,
    config_value,
    held_tower_entries,
    tower_entries,
    vocabulary_size,
)
from flamingo_blocks.interop.families._templates import (
    Names,
    check_heads_of_norms,
    entries_of,
    ff_mult_of,
    heads_of,
    indices,
    refuse_other_options,
    resampler_depth_of,
    shape_of,
)
from flamingo_blocks.interop.key_map import Entry, Outline, Plan, Shapes
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.nn.presets import block_preset, resampler_preset

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

_BLOCKS, _RESAMPLER, _VISION = "model.gated_cross_attn_layers.", "model.perceiver_resampler.", "model.vision_model."
_LAYERS, _LANDMARK = "model.layers.", "embeddings.class_embedding"
_NEW_INPUT, _NEW_OUTPUT = "model.embed_tokens.additional_embedding.weight", "lm_head.additional_fc.weight"
_CONSTANT = re.compile(r"\.rotary_emb\.inv_freq$|^model\.vision_model\.embeddings\.position_ids$")
_GATES = {"alpha_cross_attn": "attention_gate.gate", "alpha_dense": "feed_forward_gate.gate"}
_BLOCK_NORMS: Names = {f"cross_attn.{x}_layer_norm.weight": (f"attention.{x}_norm.weight",) for x in "qk"}
_RESAMPLER_LAYER: Names = {
    **{f"0.context_layer_norm.{x}": (f"features_norm.{x}",) for x in ("weight", "bias")},
    **{f"0.latents_layer_norm.{x}": (f"latents_norm.{x}",) for x in ("weight", "bias")},
    **{f"0.{x}_proj.weight": (f"{x}_proj.weight",) for x in "qkv"},
    "0.output_proj.weight": ("o_proj.weight",),
    **{f"1.ln.{x}": (f"feed_forward.norm.{x}",) for x in ("weight", "bias")},
    "1.fc.weight": ("feed_forward.up_proj.weight",),
    "1.c_proj.weight": ("feed_forward.down_proj.weight",),
}
_RESAMPLER_NORMS: Names = {f"0.{x}_layer_norm.{y}": (f"{x}_norm.{y}",) for x in "qk" for y in ("weight", "bias")}


@dataclass(frozen=True)
class _Sizes:
    """What decides which tensors there are."""

    layers: list[int]
    channels: int | None
    qk_norm: bool
    resampler_depth: int
    resampler_qk_norm: bool


class IdeficsFamily:
    """Checkpoints of IDEFICS 9B and 80B, their instruction-tuned forms, and what was trained like them.

    Blocks stand before layer `i` where `i % every == 0`, numbered on their own. The file holds everything: a Llama
    under its own names, the tower, additional rows for `<fake_token_around_image>` and `<image>`.
    """

    name = "idefics"

    def matches(self, shapes: Shapes) -> bool:
        """Whether a block has a gate of IDEFICS: any of them, for one may be lost, which is told later."""
        return any(name.startswith(_BLOCKS) and name.rpartition(".")[2] in _GATES for name in shapes)

    def plan(
        self,
        shapes: Shapes,
        *,
        lm: nn.Module,
        vision: nn.Module | None,
        media_token_id: int | None = None,
        document_end_id: int | Literal["eos"] | None = "eos",
        every: int | None = None,
        num_heads: int | None = None,
        norm_eps: float | None = None,
        resampler_num_heads: int | None = None,
        resampler_head_dim: int = 96,
        resampler_depth: int | None = None,
    ) -> Plan:
        """Read the sizes off the shapes, and say where each tensor goes.

        Args:
            shapes: Of the checkpoint.
            lm: A plain Llama of the checkpoint's sizes; `idefics_parts` builds it from the config.
            vision: The tower, likewise.
            media_token_id: Id of `<image>`; the second additional token by default, as in the published tokenizers.
            document_end_id: Behind this token earlier images are out of sight, as IDEFICS' processor has it: by default
                the end-of-sequence token of `lm`; `None` for nowhere.
            every: Distance between blocks; told by their number by default.
            num_heads: Heads of the blocks; those of `lm` by default.
            norm_eps: Of the blocks' norms; that of `lm` by default.
            resampler_num_heads: Heads of the resampler, in place of `resampler_head_dim`.
            resampler_head_dim: Width of these heads.
            resampler_depth: Its layers, 0 for no resampler, to be compared with what the checkpoint holds; a part that
                is lost whole is told by nothing else.

        Returns:
            The plan.

        Raises:
            CheckpointError: If the checkpoint lacks a block or a layer of the resampler, or does not fit `lm` or
                `vision`.
            ValueError: If the media tag cannot be told.
        """
        outline = self.outline(
            shapes, num_layers=len(find_decoder_layers(lm).layers), every=every,
            num_heads=config_value(lm, "num_attention_heads") if num_heads is None else num_heads,
            norm_eps=norm_eps or config_value(lm, "rms_norm_eps"), resampler_num_heads=resampler_num_heads,
            resampler_head_dim=resampler_head_dim, resampler_depth=resampler_depth,
        )  # fmt: skip
        rows = {_NEW_INPUT, _NEW_OUTPUT} & shapes.keys()  # one of both is told to be missing, as any name is
        new = shape_of(shapes, _NEW_INPUT, _NEW_OUTPUT, ndim=2)[0] if rows else 0
        if document_end_id == "eos":
            document_end_id = _first_id(config_value(lm, "eos_token_id"))
        return Plan(
            blocks=outline.blocks,
            resampler=outline.resampler,
            flamingo={
                "media_token_id": _media_token_id(media_token_id, lm, new),
                "document_end_id": document_end_id,
                "num_new_tokens": new,
            },
            entries=outline.entries + held_tower_entries(_without_constants(shapes), _VISION, vision, _LANDMARK)
            + _language_model_entries(lm, new),
            kept={name: "a constant, which the model makes itself" for name in shapes if _CONSTANT.search(name)},
        )  # fmt: skip

    def outline(
        self,
        shapes: Shapes,
        *,
        num_layers: int | None = None,
        every: int | None = None,
        num_heads: int | None = None,
        norm_eps: float | None = None,
        resampler_num_heads: int | None = None,
        resampler_head_dim: int = 96,
        resampler_depth: int | None = None,
    ) -> Outline:
        """What the checkpoint tells by itself.

        Args:
            shapes: Of the checkpoint.
            num_layers: Of the language model; counted by default.
            every: As in `plan`.
            num_heads: Heads of the blocks; of width 128 by default, as those of published checkpoints.
            norm_eps: As in `plan`.
            resampler_num_heads: Likewise.
            resampler_head_dim: Likewise.
            resampler_depth: Likewise.

        Returns:
            Sizes, and the entries of what was trained.

        Raises:
            CheckpointError: If a block or a layer of the resampler is missing, or a tensor that sizes are read off.
        """
        layers = len(indices(shapes, _LAYERS)) if num_layers is None else num_layers
        sizes = _read_sizes(shapes, layers, every, resampler_depth)
        block = _block_arguments(shapes, sizes, num_heads)
        block["norm_eps"] = norm_eps or block["norm_eps"]
        resampler = None
        if sizes.resampler_depth:
            resampler = _resampler_arguments(shapes, sizes, resampler_num_heads, resampler_head_dim)
        blocks = {layer: dict(block) for layer in sizes.layers}
        return Outline(blocks, resampler, _trained_entries(sizes), (_BLOCKS, _RESAMPLER), "model.layers")

    def entries(self, flamingo: "Flamingo") -> list[Entry]:
        """What transformers saves of such a model.

        Args:
            flamingo: The model.

        Returns:
            The entries.

        Raises:
            CheckpointError: If the model computes what IDEFICS cannot.
        """
        _check_computes(flamingo)
        layers = sorted(int(layer) for layer in flamingo.blocks)
        num_layers = len(find_decoder_layers(flamingo.lm, flamingo.layers).layers)
        common_step(layers, num_layers, family=self.name, offset=0)
        block: Any = flamingo.blocks[str(layers[0])].config
        resampler: Any = {} if flamingo.resampler is None else flamingo.resampler.config
        sizes = _Sizes(
            layers, block["dim"] if block["gate"] == "channel" else None, block["qk_norm"] is not None,
            resampler.get("depth", 0), resampler.get("qk_norm") is not None,
        )  # fmt: skip
        tower = tower_entries(flamingo.vision, _VISION, _LANDMARK)
        return _trained_entries(sizes) + tower + _language_model_entries(flamingo.lm, flamingo.num_new_tokens)


FAMILY = IdeficsFamily()


def _read_sizes(shapes: Shapes, num_layers: int, every: int | None, resampler_depth: int | None) -> _Sizes:
    held = indices(shapes, _BLOCKS)
    if not held:
        raise CheckpointError(f"the checkpoint holds no gated block at all, no {_BLOCKS}0...")
    if missing := sorted(set(range(len(held))) - set(held)):
        raise CheckpointError(f"the checkpoint has gated blocks {held}, but lacks {missing}")
    step = max(num_layers // len(held), 1) if every is None else checked_distance(every)
    if step * len(held) != num_layers:
        raise CheckpointError(
            f"the checkpoint has {len(held)} gated blocks, one before every {step} of {num_layers} layers would be "
            f"{num_layers / step:g}; blocks are missing, or the language model is another one"
        )
    layers = [block * step for block in held]
    gate = shape_of(shapes, f"{_BLOCKS}0.alpha_cross_attn")
    return _Sizes(
        layers,
        channels=gate[-1] if len(gate) == 3 else None,
        qk_norm=f"{_BLOCKS}0.cross_attn.q_layer_norm.weight" in shapes,
        resampler_depth=resampler_depth_of(shapes, f"{_RESAMPLER}blocks.", resampler_depth),
        resampler_qk_norm=f"{_RESAMPLER}blocks.0.0.q_layer_norm.weight" in shapes,
    )


def _block_arguments(shapes: Shapes, sizes: _Sizes, num_heads: int | None) -> dict[str, Any]:
    query = f"{_BLOCKS}0.cross_attn.q_proj.weight"
    inner, dim = shape_of(shapes, query, ndim=2)
    _, vision_dim = shape_of(shapes, f"{_BLOCKS}0.cross_attn.k_proj.weight", ndim=2)
    hidden_dim, _ = shape_of(shapes, f"{_BLOCKS}0.mlp.up_proj.weight", ndim=2)
    head_dim = 128
    if sizes.qk_norm:
        norm = f"{_BLOCKS}0.cross_attn.q_layer_norm.weight"
        (head_dim,) = shape_of(shapes, norm, ndim=1)
        check_heads_of_norms(inner, head_dim, num_heads, norm)
        num_heads = None
    return block_preset(
        "idefics", dim=dim, vision_dim=vision_dim, hidden_dim=hidden_dim,
        gate="scalar" if sizes.channels is None else "channel", qk_norm="rms_norm" if sizes.qk_norm else None,
        **heads_of(inner, head_dim, num_heads, query),
    )  # fmt: skip


def _resampler_arguments(shapes: Shapes, sizes: _Sizes, num_heads: int | None, head_dim: int) -> dict[str, Any]:
    num_latents, dim = shape_of(shapes, f"{_RESAMPLER}latents", ndim=2)
    query = f"{_RESAMPLER}blocks.0.0.q_proj.weight"
    inner, _ = shape_of(shapes, query, ndim=2)
    if sizes.resampler_qk_norm:
        norm = f"{_RESAMPLER}blocks.0.0.q_layer_norm.weight"
        (head_dim,) = shape_of(shapes, norm, ndim=1)
        check_heads_of_norms(inner, head_dim, num_heads, norm, of="resampler_")
        num_heads = None
    hidden, _ = shape_of(shapes, f"{_RESAMPLER}blocks.0.1.fc.weight", ndim=2)
    return resampler_preset(
        "idefics", vision_dim=dim, dim=dim, num_latents=num_latents, depth=sizes.resampler_depth,
        ff_mult=ff_mult_of(hidden, dim), qk_norm="layer_norm" if sizes.resampler_qk_norm else None,
        **heads_of(inner, head_dim, num_heads, query, of="resampler_"),
    )  # fmt: skip


def _trained_entries(sizes: _Sizes) -> list[Entry]:
    entries = []
    shape = None if sizes.channels is None else (1, 1, sizes.channels)
    for number, layer in enumerate(sizes.layers):
        prefix, ours = f"{_BLOCKS}{number}.", f"blocks.{layer}."
        entries += [Entry(prefix + gate, (ours + name,), shape=shape) for gate, name in _GATES.items()]
        entries += entries_of(LLAMA_BLOCK | (_BLOCK_NORMS if sizes.qk_norm else {}), prefix, ours)
    if sizes.resampler_depth:
        top: Names = {"latents": ("latents",), **{f"layer_norm.{x}": (f"final_norm.{x}",) for x in ("weight", "bias")}}
        entries += entries_of(top, _RESAMPLER, "resampler.")
    names = _RESAMPLER_LAYER | (_RESAMPLER_NORMS if sizes.resampler_qk_norm else {})
    for layer in range(sizes.resampler_depth):
        entries += entries_of(names, f"{_RESAMPLER}blocks.{layer}.", f"resampler.layers.{layer}.")
    return entries


def _language_model_entries(lm: nn.Module, num_new_tokens: int) -> list[Entry]:
    """A Llama has the names that IDEFICS gives it; a tied head is the table under another name."""
    table, head = table_and_head(lm)
    state = lm.state_dict(keep_vars=True)
    tied = table is not None and head is not None and table != head and state[table] is state[head]
    entries = []
    for name in state:
        if not (tied and name == head):
            aliases = (head,) if tied and name == table and head is not None else ()
            entries.append(Entry(name, (f"lm.{name}",), aliases=aliases))
    if num_new_tokens and tied:
        entries.append(Entry(_NEW_INPUT, ("token_rows.input",), aliases=(_NEW_OUTPUT,)))
    elif num_new_tokens:
        entries += [Entry(_NEW_INPUT, ("token_rows.input",)), Entry(_NEW_OUTPUT, ("token_rows.output",))]
    return entries


def _media_token_id(told: int | None, lm: nn.Module, num_new_tokens: int) -> int:
    if told is None and num_new_tokens < 2:
        raise ValueError(
            f"media_token_id is not told by a checkpoint with {num_new_tokens} additional tokens; pass the tokenizer's "
            "id of <image> as media_token_id="
        )
    return vocabulary_size(lm) + 1 if told is None else told


def _first_id(ids: Any) -> int | None:
    first = ids[0] if isinstance(ids, list | tuple) and ids else ids
    return first if isinstance(first, int) else None


def _without_constants(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not _CONSTANT.search(name)}


def _check_computes(flamingo: "Flamingo") -> None:
    if flamingo.scope != "last" or flamingo.projection is not None or not flamingo.predict_new_tokens:
        raise CheckpointError(
            f"idefics has scope 'last', no projection, and predicts its new tokens; this model has scope "
            f"{flamingo.scope!r}, projection {type(flamingo.projection).__name__} and "
            f"predict_new_tokens={flamingo.predict_new_tokens}"
        )
    end = _first_id(config_value(flamingo.lm, "eos_token_id"))
    if flamingo.document_end_id is None or end not in (None, flamingo.document_end_id):
        raise CheckpointError(
            f"idefics ends documents at the language model's end of text, {end}; this model has "
            f"document_end_id={flamingo.document_end_id}"
        )
    first = next(iter(flamingo.blocks.values()), None)
    preset = {name: value for name, value in block_preset("idefics").items() if name != "norm_eps"}
    same = {name: getattr(first, "config", {}).get(name) for name in ("gate", "qk_norm", "num_heads", "norm_eps")}
    for layer, block in flamingo.blocks.items():
        refuse_other_options(block, preset | same | {"dense_without_media": True}, f"block {layer}", "idefics")
        config: Any = block.config
        if config["num_kv_heads"] not in (None, config["num_heads"]):
            raise CheckpointError(f"block {layer} has grouped heads, and idefics has none")
    if same["qk_norm"] not in (None, "rms_norm"):
        raise CheckpointError(f"the blocks have qk_norm={same['qk_norm']!r}, and idefics has 'rms_norm' or none")
    if flamingo.resampler is not None:
        wanted = {"activation": "relu", "final_norm": True, "norm": "layer_norm", "max_frames": 0}
        refuse_other_options(flamingo.resampler, wanted, "the resampler", "idefics")
