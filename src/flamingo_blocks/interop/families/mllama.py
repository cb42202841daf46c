"""Mllama, which is Llama 3.2 Vision: checkpoints of `MllamaForConditionalGeneration` and `MllamaForCausalLM`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.families._llama_layers import (
    LLAMA_BLOCK,
    config_value,
    held_tower_entries,
    tower_entries,
    vocabulary_size,
)
from flamingo_blocks.interop.families._templates import (
    Names,
    entries_of,
    heads_of,
    indices,
    refuse_other_options,
    shape_of,
)
from flamingo_blocks.interop.key_map import Entry, Outline, Plan, Shapes
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.nn.presets import block_preset

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

_GATE = re.compile(r"^(?P<text>.*)layers\.(?P<layer>\d+)\.cross_attn_attn_gate$")
_LANDMARK = "class_embedding"
_HEADS = {"num_heads": "attention", "num_kv_heads": "key_value"}  # of a block, and how a config calls them
_LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")
_BLOCK: Names = {
    **LLAMA_BLOCK,
    "cross_attn.q_norm.weight": ("attention.q_norm.weight",),
    "cross_attn.k_norm.weight": ("attention.k_norm.weight",),
    "cross_attn_attn_gate": ("attention_gate.gate",),
    "cross_attn_mlp_gate": ("feed_forward_gate.gate",),
}


@dataclass(frozen=True)
class _Spelling:
    """What stands before the names of each part."""

    text: str
    head: str = "lm_head.weight"
    vision: str = ""
    projector: str = ""


_SPELLINGS = {
    "hub": _Spelling(
        "language_model.model.", "language_model.lm_head.weight", "vision_model.", "multi_modal_projector."
    ),
    "live": _Spelling("model.language_model.", vision="model.vision_model.", projector="model.multi_modal_projector."),
    "text": _Spelling("model."),
}


class MllamaFamily:
    """Checkpoints of Llama 3.2 Vision, 11B and 90B, and of its text model alone.

    The layers of cross-attention stand in the list of layers and count there; here each is a block before the next
    layer of self-attention, and the language model is a plain Llama of the others. The table has eight rows more than
    the head: tokens that are read and never written.
    """

    name = "mllama"

    def matches(self, shapes: Shapes) -> bool:
        """Whether a layer has the gates of Mllama."""
        return any(_GATE.match(name) for name in shapes)

    def plan(
        self,
        shapes: Shapes,
        *,
        lm: nn.Module,
        vision: nn.Module | None,
        media_token_id: int | None = None,
        norm_eps: float | None = None,
        cross_attention_layers: list[int] | None = None,
    ) -> Plan:
        """Read the sizes off the shapes, and say where each tensor goes.

        Args:
            shapes: Of the checkpoint.
            lm: A plain Llama of the self-attention layers; `mllama_parts` builds it from the config.
            vision: The tower, likewise.
            media_token_id: Id of `<|image|>`; the first one behind the head's vocabulary by default.
            norm_eps: Of the blocks' norms; that of `lm` by default.
            cross_attention_layers: Indices of these layers, to be compared with those that the checkpoint holds.

        Returns:
            The plan.

        Raises:
            CheckpointError: If a layer is missing, or the checkpoint does not fit `lm`, `vision` or what is told.
        """
        spelling = _spelling_of(shapes)
        own = _own_layers(shapes, spelling, len(find_decoder_layers(lm).layers))
        if cross_attention_layers is not None and sorted(cross_attention_layers) != sorted(own.cross.values()):
            raise CheckpointError(
                f"cross_attention_layers is {cross_attention_layers}, of the config or of what was passed, but the "
                f"checkpoint has cross-attention in layers {sorted(own.cross.values())}; correct it there, or take the "
                "config of this checkpoint"
            )
        outline = self.outline(shapes, norm_eps=norm_eps or config_value(lm, "rms_norm_eps"))
        _check_heads(outline, lm)
        vocab = vocabulary_size(lm)
        new = shape_of(shapes, f"{spelling.text}embed_tokens.weight", ndim=2)[0] - vocab
        if new < 0:
            raise CheckpointError(
                f"{spelling.text}embed_tokens.weight has {new + vocab} rows, but the table of lm has {vocab}"
            )
        flamingo: dict[str, Any] = {
            "media_token_id": vocab if media_token_id is None else media_token_id,
            "num_new_tokens": new, "predict_new_tokens": False, "scope": "grouped",
        }  # fmt: skip
        entries = outline.entries + _language_model_entries(own, spelling, lm, has_rows=new > 0)
        if spelling.vision:
            entries += held_tower_entries(shapes, spelling.vision, vision, _LANDMARK)
        projection = None
        if _has_projector(shapes, spelling, vision=vision):
            dim, vision_dim = shape_of(shapes, f"{spelling.projector}weight", ndim=2)
            projection = {"in_features": vision_dim, "out_features": dim}
        return Plan(
            blocks=outline.blocks,
            resampler=None,
            flamingo=flamingo,
            entries=entries,
            kept={name: "rotary frequencies, which the language model makes itself"
                  for name in shapes if name.endswith("rotary_emb.inv_freq")},
            projection=projection,
        )  # fmt: skip

    def outline(self, shapes: Shapes, *, norm_eps: float | None = None) -> Outline:
        """What the checkpoint tells by itself.

        Args:
            shapes: Of the checkpoint.
            norm_eps: As in `plan`.

        Returns:
            Sizes, and the entries of what was trained.

        Raises:
            CheckpointError: If a layer is missing, or a tensor that sizes are read off.
        """
        spelling = _spelling_of(shapes)
        own = _own_layers(shapes, spelling, None)
        block = _block_arguments(shapes, f"{spelling.text}layers.{min(own.cross.values())}.")
        block["norm_eps"] = norm_eps or block["norm_eps"]
        entries = _trained_entries(own, spelling)
        inside = tuple(f"{spelling.text}layers.{index}." for index in own.cross.values())
        if _has_projector(shapes, spelling):
            entries += _projector_entries(spelling)
            inside += (spelling.projector,)
        return Outline({layer: dict(block) for layer in own.cross}, None, entries, inside, f"{spelling.text}layers")

    def entries(self, flamingo: "Flamingo", *, names: Literal["hub", "live", "text"] | None = None) -> list[Entry]:
        """What transformers saves of such a model.

        Args:
            flamingo: The model.
            names: `"hub"`: as in published files and as `save_pretrained` writes them; `"live"`: as in a
                `state_dict()`; `"text"`: the text model alone, the default for a model without projection.

        Returns:
            The entries.

        Raises:
            CheckpointError: If the model computes what Mllama cannot.
            ValueError: If `names` is unknown.
        """
        if names is None:
            names = "text" if flamingo.projection is None else "hub"
        if names not in _SPELLINGS:
            raise ValueError(f"names is {names!r}, wanted one of {', '.join(map(repr, _SPELLINGS))}")
        _check_computes(flamingo)
        spelling = _SPELLINGS[names]
        num_layers = len(find_decoder_layers(flamingo.lm, flamingo.layers).layers)
        own = _Own.of(blocks={int(layer) for layer in flamingo.blocks}, num_layers=num_layers)
        entries = _trained_entries(own, spelling)
        entries += _language_model_entries(own, spelling, flamingo.lm, has_rows=flamingo.num_new_tokens > 0)
        if spelling.vision:
            entries += tower_entries(flamingo.vision, spelling.vision, _LANDMARK)
            entries += _projector_entries(spelling) if flamingo.projection is not None else []
        return entries


FAMILY = MllamaFamily()


@dataclass(frozen=True)
class _Own:
    """The index in Mllama's list: of each block, by the layer it stands before, and of each self-attention layer."""

    cross: dict[int, int]
    plain: list[int]

    @classmethod
    def of(cls, *, blocks: Iterable[int], num_layers: int) -> "_Own":
        before = sorted(blocks)
        return cls(
            cross={layer: layer + number for number, layer in enumerate(before)},
            plain=[layer + sum(block <= layer for block in before) for layer in range(num_layers)],
        )


def _spelling_of(shapes: Shapes) -> _Spelling:
    found = {match["text"] for name in shapes if (match := _GATE.match(name))}
    known = {spelling.text: spelling for spelling in _SPELLINGS.values()}
    if len(found) != 1 or not found <= known.keys():
        raise CheckpointError(
            f"the checkpoint has layers of cross-attention under {sorted(found) or 'no name'}, wanted one of "
            f"{sorted(known)}"
        )
    return known[found.pop()]


def _own_layers(shapes: Shapes, spelling: _Spelling, num_layers: int | None) -> _Own:
    """Where the blocks stand.

    Raises:
        CheckpointError: If a layer is missing, has neither kind of attention or both, or no layer follows a block.
    """
    prefix = f"{spelling.text}layers."
    held = indices(shapes, prefix)
    if missing := sorted(set(range(len(held))) - set(held)):
        raise CheckpointError(f"the checkpoint has layers up to {held[-1]}, but lacks {missing}")
    cross = [index for index in held if any(name.startswith(f"{prefix}{index}.cross_attn") for name in shapes)]
    blocks = [index - number for number, index in enumerate(cross)]
    num_layers = len(held) - len(cross) if num_layers is None else num_layers
    if len(held) - len(cross) != num_layers:
        raise CheckpointError(
            f"the checkpoint has {len(held)} layers, {len(cross)} of them of cross-attention; lm has {num_layers}, "
            f"wanted {len(held) - len(cross)}"
        )
    if len(set(blocks)) != len(blocks) or max(blocks) >= num_layers:
        raise CheckpointError(
            f"the checkpoint has layers of cross-attention at {cross} of {len(held)}; a block must stand before a "
            "layer of self-attention, and only one before each"
        )
    return _Own.of(blocks=blocks, num_layers=num_layers)


def _check_heads(outline: Outline, lm: nn.Module) -> None:
    """Blocks have the heads of the config, as the layers of `lm` do."""
    block = next(iter(outline.blocks.values()))
    told = {name: config_value(lm, f"num_{kind}_heads") for name, kind in _HEADS.items()}
    if wrong := next((name for name, number in told.items() if number and number != block[name]), None):
        raise CheckpointError(
            f"{wrong} is {told[wrong]} in the config of lm, but the norms of the checkpoint's cross-attention are of "
            f"width {block['head_dim']}, which makes {block[wrong]}; take the config of this checkpoint"
        )


def _block_arguments(shapes: Shapes, prefix: str) -> dict[str, Any]:
    inner, dim = shape_of(shapes, f"{prefix}cross_attn.q_proj.weight", ndim=2)
    inner_kv, vision_dim = shape_of(shapes, f"{prefix}cross_attn.k_proj.weight", ndim=2)
    hidden_dim, _ = shape_of(shapes, f"{prefix}mlp.up_proj.weight", ndim=2)
    (head_dim,) = shape_of(shapes, f"{prefix}cross_attn.q_norm.weight", ndim=1)
    heads = heads_of(inner, head_dim, None, f"{prefix}cross_attn.q_proj.weight")
    kv = heads_of(inner_kv, head_dim, None, f"{prefix}cross_attn.k_proj.weight")
    return block_preset(
        "mllama", dim=dim, vision_dim=vision_dim, hidden_dim=hidden_dim, num_kv_heads=kv["num_heads"], **heads
    )


def _trained_entries(own: _Own, spelling: _Spelling) -> list[Entry]:
    entries = []
    for layer, index in own.cross.items():
        entries += entries_of(_BLOCK, f"{spelling.text}layers.{index}.", f"blocks.{layer}.")
    return entries


def _language_model_entries(own: _Own, spelling: _Spelling, lm: nn.Module, *, has_rows: bool) -> list[Entry]:
    entries = []
    for name in lm.state_dict():
        ours: tuple[str, ...] = (f"lm.{name}",)
        if found := _LAYER.match(name):
            foreign = f"{spelling.text}layers.{own.plain[int(found[1])]}.{found[2]}"
        elif name == "lm_head.weight":
            foreign = spelling.head
        else:
            foreign = spelling.text + name.removeprefix("model.")
            ours += ("token_rows.input",) if has_rows and name == "model.embed_tokens.weight" else ()
        entries.append(Entry(foreign, ours))
    return entries


def _has_projector(shapes: Shapes, spelling: _Spelling, *, vision: nn.Module | None = None) -> bool:
    """Whether the checkpoint has, or must have, a projector: it stands behind a tower."""
    parts = tuple(part for part in (spelling.vision, spelling.projector) if part)
    return bool(parts) and (vision is not None or any(name.startswith(parts) for name in shapes))


def _projector_entries(spelling: _Spelling) -> list[Entry]:
    return [Entry(f"{spelling.projector}{x}", (f"projection.{x}",)) for x in ("weight", "bias")]


def _check_computes(flamingo: "Flamingo") -> None:
    if flamingo.scope != "grouped" or flamingo.resampler is not None or flamingo.document_end_id is not None:
        raise CheckpointError(
            f"mllama has scope 'grouped', no resampler and no end of documents; this model has scope "
            f"{flamingo.scope!r}, resampler {type(flamingo.resampler).__name__} and "
            f"document_end_id={flamingo.document_end_id}"
        )
    if flamingo.num_new_tokens and flamingo.predict_new_tokens:
        raise CheckpointError("mllama never predicts its new tokens; this model has predict_new_tokens=True")
    first = next(iter(flamingo.blocks.values()), None)
    preset = {name: value for name, value in block_preset("mllama").items() if name != "norm_eps"}
    same = {name: getattr(first, "config", {}).get(name) for name in ("num_heads", "num_kv_heads", "norm_eps")}
    for layer, block in flamingo.blocks.items():
        refuse_other_options(block, preset | same | {"gate": "scalar"}, f"block {layer}", "mllama")
