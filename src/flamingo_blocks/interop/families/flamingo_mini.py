"""flamingo-mini: blocks inside the layers of OPT or GPT-2, frame embeddings on images too."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.families import _templates as templates
from flamingo_blocks.interop.families._block_layers import check_layers, common_step
from flamingo_blocks.interop.families._frozen_parts import (
    language_model_entries,
    table_and_head,
    vision_constants,
    vision_entries,
    vision_entries_of,
)
from flamingo_blocks.interop.families._token_ids import token_ids
from flamingo_blocks.interop.key_map import Entry, Outline, Plan, Shapes
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.types import ActivationName

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

_ROOT = "flamingo."
_LM, _RESAMPLER, _VISION = f"{_ROOT}lm.", f"{_ROOT}resampler.", f"{_ROOT}vision_encoder."
_INSIDE = re.compile(r"^flamingo\.lm\.(?P<layers>.+)\.(?P<layer>\d+)\.xattn_block\.")
_LAYER_NAMES = templates.renamed(templates.RESAMPLER_LAYER, {"0.to_kv": "0.to_k"}) | {
    "0.to_k.weight": ("k_proj.weight",),
    "0.to_v.weight": ("v_proj.weight",),
}
_BLOCK_NAMES = templates.renamed(templates.BLOCK, {"attn_gate": "alpha_attn", "ff_gate": "alpha_ffw", "ff.": "ffw."})
_SPELLING = templates.Spelling(
    block=_BLOCK_NAMES,
    layer=_LAYER_NAMES,
    resampler=templates.RESAMPLER,
    frames="time_pos_emb",
    frames_axis=True,
    frames_always=True,
)


@dataclass(frozen=True)
class FlamingoMini:
    """Checkpoints of flamingo-mini: all of it, or what was trained.

    `flamingo.lm` is the inner model of `lm` (`model` of OPT, `transformer` of GPT-2). Blocks stand before layer `i`
    with `i % every == 0`. The checkpoint does not tell its activation.
    """

    name: str = "flamingo_mini"
    spelling: templates.Spelling = _SPELLING

    def matches(self, shapes: Shapes) -> bool:
        """Whether there are blocks of that name inside layers."""
        return any(_INSIDE.match(name) for name in shapes)

    def plan(
        self,
        shapes: Shapes,
        *,
        lm: nn.Module,
        vision: nn.Module | None,
        media_token_id: int | None = None,
        end_token_id: int | None = None,
        activation: ActivationName = "gelu",
        every: int | None = None,
        num_heads: int | None = None,
        head_dim: int = 64,
        resampler_depth: int | None = None,
    ) -> Plan:
        """Read the sizes off the shapes, and say where each tensor goes.

        Args:
            shapes: Of the checkpoint.
            lm: The plain language model.
            vision: The tower, if the checkpoint holds one.
            media_token_id: Id of the media tag; it takes any `<` for one.
            end_token_id: Id of its end of chunk.
            activation: Of its config: `"gelu"` (its default), `"relu"` or `"squared_relu"`.
            every: Distance between blocks, to be compared with what the checkpoint holds.
            num_heads: Heads of blocks and resampler, in place of `head_dim`.
            head_dim: Width of a head.
            resampler_depth: Layers of the resampler, to be compared with what the checkpoint holds: no name tells that
                the last ones are lost.

        Returns:
            The plan.

        Raises:
            CheckpointError: If the checkpoint lacks a block, or does not fit `lm` or `vision`.
        """
        decoder = find_decoder_layers(lm)
        outline = self.outline(
            shapes, num_heads=num_heads, head_dim=head_dim, activation=activation, resampler_depth=resampler_depth
        )
        if outline.layers is None or not f".{decoder.name}".endswith(f".{outline.layers}"):
            raise CheckpointError(
                f"the checkpoint was made around a language model with layers {outline.layers!r}; lm has "
                f"{decoder.name!r}"
            )
        _check_wrapped(shapes, outline.layers, set(outline.blocks))
        inner = decoder.name.removesuffix(outline.layers)
        check_layers(sorted(outline.blocks), len(decoder.layers), every=every)
        part = language_model_entries(
            shapes, _language_model_held(shapes, inner), lm, layers=decoder.name,
            spell=partial(_spelled, decoder.name, inner, sorted(outline.blocks)),
        )  # fmt: skip
        tokens = token_ids(lm, table_and_head(lm)[0], part.num_new_tokens, media_token_id, end_token_id)
        entries = outline.entries + vision_entries(shapes, _VISION, vision)
        return Plan(
            blocks=outline.blocks,
            resampler=outline.resampler,
            flamingo={**tokens, "num_new_tokens": part.num_new_tokens},
            entries=entries + part.entries,
            kept={**part.kept, **vision_constants(shapes, _VISION)},
            fresh=part.fresh,
        )

    def outline(
        self,
        shapes: Shapes,
        *,
        num_heads: int | None = None,
        head_dim: int = 64,
        activation: ActivationName = "gelu",
        resampler_depth: int | None = None,
    ) -> Outline:
        """What the checkpoint tells by itself.

        Args:
            shapes: Of the checkpoint.
            num_heads: Heads of blocks and resampler, in place of `head_dim`.
            head_dim: Width of a head.
            activation: Of its config.
            resampler_depth: As in `plan`.

        Returns:
            Sizes, and the entries of what was trained.

        Raises:
            CheckpointError: If a tensor that sizes are read off is missing.
        """
        found = [match for match in map(_INSIDE.match, shapes) if match]
        prefixes = dict(sorted({int(match["layer"]): match[0] for match in found}.items()))
        heads: dict[str, Any] = {"num_heads": num_heads, "head_dim": head_dim}
        resampler = templates.resampler_arguments(shapes, _RESAMPLER, self.spelling, depth=resampler_depth, **heads)
        resampler["activation"] = activation
        blocks = {
            layer: templates.block_arguments(shapes, prefix, self.spelling, **heads) | {"activation": activation}
            for layer, prefix in prefixes.items()
        }
        entries = self._trained_entries(prefixes, resampler)
        return Outline(blocks, resampler, entries, (_RESAMPLER, *prefixes.values()), found[0]["layers"])

    def entries(self, flamingo: "Flamingo", *, head_dim: int = 64, activation: ActivationName = "gelu") -> list[Entry]:
        """The state dict of flamingo-mini's model.

        Args:
            flamingo: The model.
            head_dim: Width of a head in the config that it will be read with.
            activation: That of this config.

        Returns:
            The entries.

        Raises:
            CheckpointError: If the model computes what flamingo-mini cannot.
        """
        templates.check_computes(flamingo, family=self.name, head_dim=head_dim, activation=activation)
        decoder = find_decoder_layers(flamingo.lm, flamingo.layers)
        common_step([int(layer) for layer in flamingo.blocks], len(decoder.layers), family=self.name, offset=0)
        inner = decoder.name.partition(".")[0] + "."
        inside = decoder.name.removeprefix(inner)
        layers = {int(layer): f"{_LM}{inside}.{layer}.xattn_block." for layer in flamingo.blocks}
        assert flamingo.resampler is not None
        config: Any = flamingo.resampler.config
        if not config["max_frames"]:
            raise CheckpointError(f"the resampler has max_frames=0, and that of {self.name} embeds frames")
        entries = self._trained_entries(layers, config)
        table, output = table_and_head(flamingo.lm)
        rows = {table: ("token_rows.input",), output: ("token_rows.output",)} if flamingo.token_rows is not None else {}
        for name in flamingo.lm.state_dict():
            foreign = _spelled(decoder.name, inner, sorted(layers), name)
            entries.append(Entry(foreign, (f"lm.{name}", *rows.get(name, ()))))
        return entries + vision_entries_of(flamingo.vision, _VISION)

    def _trained_entries(self, layers: dict[int, str], resampler: dict[str, Any]) -> list[Entry]:
        sizes = {name: resampler[name] for name in ("depth", "max_frames", "dim")}
        entries = templates.resampler_entries(_RESAMPLER, self.spelling, **sizes)
        for layer, prefix in layers.items():
            entries += templates.entries_of(self.spelling.block, prefix, f"blocks.{layer}.")
        return entries


def _spelled(decoder: str, inner: str, layers: Sequence[int], name: str) -> str:
    """The checkpoint's name of a tensor of the plain language model: layers with a block are wrapped."""
    found = re.match(rf"{re.escape(decoder)}\.(\d+)\.", name)
    if found and int(found[1]) in layers:
        return f"{_LM}{found[0].removeprefix(inner)}lm_block.{name.removeprefix(found[0])}"
    return f"{_LM}{name.removeprefix(inner)}" if name.startswith(inner) else f"{_ROOT}{name}"


def _check_wrapped(shapes: Shapes, layers: str, blocks: set[int]) -> None:
    """Layers with a block are wrapped, and others are not: of those that are held, the names tell which had one."""
    own = re.compile(rf"^{re.escape(_LM + layers)}\.(\d+)\.(?!xattn_block\.)(lm_block\.)?")
    held = [found for found in map(own.match, shapes) if found]
    wrapped = {int(found[1]) for found in held if found[2]}
    if lost := sorted(wrapped - blocks):
        raise CheckpointError(
            f"the checkpoint has wrapped layers {sorted(wrapped)} (lm_block) and blocks for layers {sorted(blocks)}, "
            f"but lacks those for {lost}"
        )
    if bare := sorted({int(found[1]) for found in held} & blocks - wrapped):
        raise CheckpointError(
            f"the checkpoint has blocks for layers {bare}, whose layers are not wrapped (no lm_block)"
        )


def _language_model_held(shapes: Shapes, inner: str) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {}
    for name in shapes:
        if name.startswith((_RESAMPLER, _VISION)) or not name.startswith(_ROOT) or _INSIDE.match(name):
            continue
        if name.startswith(_LM):
            plain = inner + name.removeprefix(_LM).replace(".lm_block.", ".", 1)
        else:
            plain = name.removeprefix(_ROOT)
        held.setdefault(plain, []).append(name)
    return held


FAMILY = FlamingoMini()
