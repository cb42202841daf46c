"""flamingo-pytorch: `FlamingoPaLM`, whose blocks stand behind layers, and whose language model is its own."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.families import _templates as templates
from flamingo_blocks.interop.families._block_layers import check_layers, common_step
from flamingo_blocks.interop.families._frozen_parts import (
    language_model_entries,
    vision_constants,
    vision_entries,
    vision_entries_of,
)
from flamingo_blocks.interop.key_map import Entry, Outline, Plan, Shapes
from flamingo_blocks.lm.find_layers import find_decoder_layers

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

_RESAMPLER, _VISION, _FRAMES = "perceiver_resampler.", "img_encoder.", "video_frame_pos_emb"
_POSITIONS = f"{_RESAMPLER}media_pos_emb"
_BLOCK = re.compile(r"^layers\.(\d+)\.1\.")
_LAYER = re.compile(r"^layers\.(\d+)\.0\.")
_NUM_POSITIONS = 4  # its default


@dataclass(frozen=True)
class FlamingoPytorch:
    """Checkpoints of `FlamingoPaLM`.

    A block stands behind layer `i` with `i % every == 0`, which here is before layer `i + 1`. `lm` is a module with
    `token_emb`, `layers` (the first of each of its pairs) and `to_logits`; where its last layer has a block,
    `layers` ends with an `nn.Identity` that this block can stand before.
    """

    name: str = "flamingo_pytorch"
    spelling: templates.Spelling = templates.OPEN_FLAMINGO

    def matches(self, shapes: Shapes) -> bool:
        """Whether there is a resampler of that name, and a gate in the second of a pair of layers."""
        has_gate = any(_BLOCK.match(name) and name.endswith((".attn_gate", ".ff_gate")) for name in shapes)
        return has_gate and any(name.startswith(_RESAMPLER) for name in shapes)

    def plan(
        self,
        shapes: Shapes,
        *,
        lm: nn.Module,
        vision: nn.Module | None,
        media_token_id: int = 3,
        end_token_id: int | None = None,
        num_heads: int | None = None,
        head_dim: int = 64,
        resampler_depth: int | None = None,
        scope: templates.Scope = "last",
        clips: bool = False,
        every: int | None = None,
    ) -> Plan:
        """Read the sizes off the shapes, and say where each tensor goes.

        Args:
            shapes: Of the checkpoint.
            lm: The language model.
            vision: The tower, if the checkpoint holds one.
            media_token_id: Id of the media tag; the default is its own.
            end_token_id: Token to stop generation at.
            num_heads: Heads of blocks and resampler, in place of `head_dim`.
            head_dim: Width of a head.
            resampler_depth: Layers of the resampler, to be compared with what the checkpoint holds: no name tells that
                the last ones are lost.
            scope: `"all"` for a model that was trained with `only_attend_immediate_media=False`.
            clips: All media are clips. Its frame embeddings are for clips and not for images; ours are for both.
            every: Distance between blocks, to be compared with what the checkpoint holds.

        Returns:
            The plan.

        Raises:
            CheckpointError: If the checkpoint lacks a block, does not fit `lm`, or has frame embeddings without
                `clips`.
        """
        decoder = find_decoder_layers(lm)
        outline = self.outline(shapes, num_heads=num_heads, head_dim=head_dim, resampler_depth=resampler_depth)
        layers = [layer - 1 for layer in outline.blocks]
        check_layers(layers, 1 + max(templates.indices(shapes, "layers.")), every=every)
        if layers[-1] + 1 >= len(decoder.layers):
            raise CheckpointError(
                f"its block behind layer {layers[-1]} stands before layer {layers[-1] + 1} here, but lm has "
                f"{len(decoder.layers)} layers; end them with an nn.Identity()"
            )
        if _FRAMES in shapes and not clips:
            raise CheckpointError(
                f"{_FRAMES} is for clips and not for images; pass clips=True where all media are clips, or "
                f"leave_out=({_FRAMES!r},) where none is"
            )
        held: dict[str, list[str]] = {}
        for name in shapes:
            if not _BLOCK.match(name) and not name.startswith((_RESAMPLER, _VISION, _FRAMES)):
                held[_LAYER.sub(r"layers.\1.", name)] = [name]
        part = language_model_entries(shapes, held, lm, layers=decoder.name, spell=_spelled)
        return Plan(
            blocks=outline.blocks,
            resampler=outline.resampler,
            flamingo={
                "media_token_id": media_token_id, "end_token_id": end_token_id, "num_new_tokens": part.num_new_tokens,
                "scope": templates.checked_scope(scope),
            },
            entries=outline.entries + vision_entries(shapes, _VISION, vision) + part.entries,
            kept={**part.kept, **vision_constants(shapes, _VISION)},
            fresh=part.fresh,
        )  # fmt: skip

    def outline(
        self,
        shapes: Shapes,
        *,
        num_heads: int | None = None,
        head_dim: int = 64,
        resampler_depth: int | None = None,
    ) -> Outline:
        """What the checkpoint tells by itself.

        Args:
            shapes: Of the checkpoint.
            num_heads: Heads of blocks and resampler, in place of `head_dim`.
            head_dim: Width of a head.
            resampler_depth: As in `plan`.

        Returns:
            Sizes, and the entries of what was trained.

        Raises:
            CheckpointError: If a tensor that sizes are read off is missing.
        """
        layers = sorted({int(found[1]) for name in shapes if (found := _BLOCK.match(name))})
        heads: dict[str, Any] = {"num_heads": num_heads, "head_dim": head_dim}
        resampler = templates.resampler_arguments(shapes, _RESAMPLER, self.spelling, depth=resampler_depth, **heads)
        resampler["max_frames"] = templates.shape_of(shapes, _FRAMES)[0] if _FRAMES in shapes else 0
        entries = self._trained_entries(layers, resampler)
        entries.append(Entry(_POSITIONS, (), shape=shapes.get(_POSITIONS, (_NUM_POSITIONS, 1, resampler["dim"]))))
        blocks = {
            layer + 1: templates.block_arguments(shapes, f"layers.{layer}.1.", self.spelling, **heads)
            for layer in layers
        }
        inside = (_RESAMPLER, _FRAMES, *(f"layers.{layer}.1." for layer in layers))
        return Outline(blocks, resampler, entries, inside, "layers")

    def entries(self, flamingo: "Flamingo", *, head_dim: int = 64, scope: templates.Scope = "last") -> list[Entry]:
        """The state dict of `FlamingoPaLM`, its positions of media zero.

        Args:
            flamingo: The model.
            head_dim: Width of a head in the code that will read it.
            scope: Which images it will see: `"all"` with `only_attend_immediate_media=False`.

        Returns:
            The entries.

        Raises:
            CheckpointError: If the model computes what `FlamingoPaLM` cannot.
        """
        templates.check_computes(flamingo, family=self.name, head_dim=head_dim, scope=scope)
        if flamingo.token_rows is not None:
            raise CheckpointError(f"{self.name} has one table, and this model has rows for new tokens beside it")
        layers = [int(layer) - 1 for layer in flamingo.blocks]
        state = flamingo.lm.state_dict()
        common_step(layers, 1 + max(templates.indices(state, "layers.")), family=self.name, offset=0)
        assert flamingo.resampler is not None
        config: Any = flamingo.resampler.config
        entries = self._trained_entries(layers, config)
        entries.append(Entry(_POSITIONS, (), shape=(_NUM_POSITIONS, 1, config["dim"])))
        entries += [Entry(_spelled(name), (f"lm.{name}",)) for name in state]
        return entries + vision_entries_of(flamingo.vision, _VISION)

    def _trained_entries(self, layers: list[int], resampler: dict[str, Any]) -> list[Entry]:
        sizes = {name: resampler[name] for name in ("depth", "dim")}
        entries = templates.resampler_entries(_RESAMPLER, self.spelling, **sizes, max_frames=0)
        if resampler["max_frames"]:
            entries.append(Entry(_FRAMES, ("resampler.frame_embeddings",)))
        for layer in layers:
            entries += templates.entries_of(self.spelling.block, f"layers.{layer}.1.", f"blocks.{layer + 1}.")
        return entries


def _spelled(name: str) -> str:
    """The checkpoint's name of a tensor of the language model: each layer is the first of a pair."""
    return re.sub(r"^layers\.(\d+)\.", r"layers.\1.0.", name)


FAMILY = FlamingoPytorch()
