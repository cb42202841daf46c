"""Families whose blocks live inside a `lang_encoder`: open_flamingo and what was made of it."""

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

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
from flamingo_blocks.lm.find_layers import DecoderLayers, find_decoder_layers

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

Layout = Literal["v1", "v2", "live"]
_LM, _RESAMPLER, _VISION = "lang_encoder.", "perceiver.", "vision_encoder."
_LISTED, _OLD = "lang_encoder.gated_cross_attn_layers.", "lang_encoder.old_decoder_blocks."
_INSIDE = re.compile(r"^lang_encoder\.(?P<layers>.+)\.(?P<layer>\d+)\.gated_cross_attn_layer\.")


@dataclass(frozen=True)
class LangEncoderFamily:
    """Checkpoints with `perceiver`, `lang_encoder` and perhaps `vision_encoder`.

    Blocks stand before layer `i` where `(i + 1) % every == 0`; keys and values are one matrix; heads are 64 wide. What
    was trained is saved with the embedding table, new rows included.

    Args:
        name: What the family is called.
        spelling: How it spells the parts of block and resampler.
        twice: Whether its model also holds blocks and layers in lists beside the language model.
    """

    name: str
    spelling: templates.Spelling
    twice: bool = True

    def matches(self, shapes: Shapes) -> bool:
        """Whether there are blocks in a `lang_encoder` that are spelled so."""
        dense = (name for name, ours in self.spelling.block.items() if ours[0].startswith("feed_forward."))
        endings = tuple(f".{name}" for name in dense)  # any of them: one may be lost, which is told later
        return any(name.startswith(_LM) and "gated_cross_attn" in name and name.endswith(endings) for name in shapes)

    def plan(
        self,
        shapes: Shapes,
        *,
        lm: nn.Module,
        vision: nn.Module | None,
        media_token_id: int | None = None,
        end_token_id: int | None = None,
        every: int | None = None,
        num_heads: int | None = None,
        head_dim: int = 64,
        resampler_depth: int | None = None,
        scope: templates.Scope = "last",
        num_new_tokens: int | None = None,
        layers: str | None = None,
        embedding: str | None = None,
        head: str | None = None,
    ) -> Plan:
        """Read the sizes off the shapes, and say where each tensor goes.

        Args:
            shapes: Of the checkpoint.
            lm: The plain language model.
            vision: The tower, if the checkpoint holds one.
            media_token_id: Id of `<image>`; the second new row by default, as open_flamingo's factory adds it.
            end_token_id: Id of `<|endofchunk|>`; the first new row by default.
            every: Distance between blocks, to be compared with what the checkpoint holds.
            num_heads: Heads of blocks and resampler, in place of `head_dim`.
            head_dim: Width of a head.
            resampler_depth: Layers of the resampler, to be compared with what the checkpoint holds: no name tells that
                the last ones are lost.
            scope: `"all"` for a model that was trained with `only_attend_immediate_media=False`.
            num_new_tokens: Rows beyond the table of `lm`; told by the checkpoint where that holds the table.
            layers: Dotted name of the decoder layers, where `attach` cannot find them.
            embedding: Dotted name of the token embedding, likewise.
            head: Dotted name of the output projection, likewise.

        Returns:
            The plan.

        Raises:
            CheckpointError: If the checkpoint lacks a block, or does not fit `lm` or `vision`.
        """
        decoder = find_decoder_layers(lm, layers)
        outline = self.outline(shapes, num_heads=num_heads, head_dim=head_dim, resampler_depth=resampler_depth)
        if outline.layers not in (None, decoder.name):
            raise CheckpointError(
                f"the checkpoint was made around a language model with layers {outline.layers!r}; lm has "
                f"{decoder.name!r}"
            )
        check_layers(list(outline.blocks), len(decoder.layers), every=every, offset=1)
        entries = outline.entries + vision_entries(shapes, _VISION, vision)
        names = {"layers": layers, "embedding": embedding, "head": head}
        part = language_model_entries(
            shapes, _language_model_held(shapes, decoder), lm, layers=decoder.name,
            spell=partial(_spelled, decoder.name), num_new_tokens=num_new_tokens, embedding=embedding, head=head,
        )  # fmt: skip
        table, _ = table_and_head(lm, embedding=embedding, head=head)
        tokens = token_ids(lm, table, part.num_new_tokens, media_token_id, end_token_id)
        return Plan(
            blocks=outline.blocks,
            resampler=outline.resampler,
            flamingo={
                **tokens,
                **names,
                "num_new_tokens": part.num_new_tokens,
                "scope": templates.checked_scope(scope),
            },
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
            CheckpointError: If a tensor that sizes are read off is missing, or blocks are inside two lists of layers.
        """
        layers, prefixes = _blocks_held(shapes)
        heads: dict[str, Any] = {"num_heads": num_heads, "head_dim": head_dim}
        resampler = templates.resampler_arguments(shapes, _RESAMPLER, self.spelling, depth=resampler_depth, **heads)
        blocks = {
            layer: templates.block_arguments(shapes, _first_held(shapes, names), self.spelling, **heads)
            for layer, names in prefixes.items()
        }
        entries = self._trained_entries(prefixes, resampler)
        entries += templates.positions(shapes, f"{_RESAMPLER}media_time_embs")
        inside = (_RESAMPLER, *(name for names in prefixes.values() for name in names))
        return Outline(blocks, resampler, entries, inside, layers)

    def entries(
        self, flamingo: "Flamingo", *, layout: Layout = "v2", head_dim: int = 64, scope: templates.Scope = "last"
    ) -> list[Entry]:
        """What the family saves of such a model.

        Args:
            flamingo: The model.
            layout: `"v2"`: as open_flamingo 2.0.x saves it; `"v1"`: blocks twice, as before; `"live"`: its whole
                `state_dict()`.
            head_dim: Width of a head in the code that will read it.
            scope: Which images it will see: `"all"` with `only_attend_immediate_media=False`.

        Returns:
            The entries.

        Raises:
            CheckpointError: If the model computes what the family cannot.
            ValueError: If `layout` or `scope` is unknown.
        """
        if layout not in ("v1", "v2", "live"):
            raise ValueError(f"layout is {layout!r}, wanted 'v1', 'v2' or 'live'")
        templates.check_computes(flamingo, family=self.name, head_dim=head_dim, scope=scope)
        decoder = find_decoder_layers(flamingo.lm, flamingo.layers)
        common_step([int(layer) for layer in flamingo.blocks], len(decoder.layers), family=self.name)
        inside = f"{_LM}{decoder.name}."
        blocks = {
            int(layer): [f"{inside}{layer}.gated_cross_attn_layer."]
            + [f"{_LISTED}{layer}."] * (layout != "v2" and self.twice)
            for layer in flamingo.blocks
        }
        assert flamingo.resampler is not None
        config: Any = flamingo.resampler.config
        return self._trained_entries(blocks, config) + _frozen_entries(flamingo, decoder, layout, twice=self.twice)

    def _trained_entries(self, blocks: dict[int, list[str]], resampler: dict[str, Any]) -> list[Entry]:
        sizes = {name: resampler[name] for name in ("depth", "max_frames", "dim")}
        entries = templates.resampler_entries(_RESAMPLER, self.spelling, **sizes)
        for layer, (prefix, *others) in blocks.items():
            entries += templates.entries_of(self.spelling.block, prefix, f"blocks.{layer}.", aliases=tuple(others))
        return entries


def _blocks_held(shapes: Shapes) -> tuple[str | None, dict[int, list[str]]]:
    """Name of the layers, and prefixes of each block: inside the language model first, then in the list beside it."""
    blocks: dict[int, list[str]] = {}
    lists = set()
    for name in shapes:
        if not name.startswith((_LISTED, _OLD)) and (found := _INSIDE.match(name)):
            lists.add(found["layers"])
            blocks.setdefault(int(found["layer"]), [found[0]])
    if len(lists) > 1:
        raise CheckpointError(f"the checkpoint has blocks inside {len(lists)} lists of layers: {sorted(lists)}")
    for layer in templates.indices(shapes, _LISTED):
        blocks.setdefault(layer, []).append(f"{_LISTED}{layer}.")
    return next(iter(lists), None), dict(sorted(blocks.items()))


def _first_held(shapes: Shapes, prefixes: list[str]) -> str:
    return next(prefix for prefix in prefixes if any(name.startswith(prefix) for name in shapes))


def _language_model_held(shapes: Shapes, decoder: DecoderLayers) -> dict[str, list[str]]:
    """Names inside the plain language model, and those of the checkpoint: its layers are wrapped, and there twice."""
    held: dict[str, list[str]] = {}
    wrapped = re.compile(rf"^{re.escape(decoder.name)}\.(\d+)\.decoder_layer\.")
    for name in shapes:
        if not name.startswith(_LM) or name.startswith(_LISTED) or _INSIDE.match(name):
            continue
        if name.startswith(_OLD):
            plain = f"{decoder.name}.{name.removeprefix(_OLD)}"
        else:
            plain = wrapped.sub(rf"{decoder.name}.\1.", name.removeprefix(_LM))
        held.setdefault(plain, []).append(name)
    return {plain: sorted(names, key=lambda name: name.startswith(_OLD)) for plain, names in held.items()}


def _spelled(layers: str, name: str) -> str:
    """The checkpoint's name of a tensor of the plain language model."""
    return _LM + re.sub(rf"^{re.escape(layers)}\.(\d+)\.", rf"{layers}.\1.decoder_layer.", name)


def _frozen_entries(flamingo: "Flamingo", decoder: DecoderLayers, layout: Layout, *, twice: bool) -> list[Entry]:
    """The table with its new rows, and with `"live"` all the rest."""
    state = flamingo.lm.state_dict(keep_vars=True)
    parameters = dict(flamingo.lm.named_parameters())
    table, output = table_and_head(flamingo.lm, embedding=flamingo.embedding, head=flamingo.head)
    rows = {table: ("token_rows.input",), output: ("token_rows.output",)} if flamingo.token_rows is not None else {}
    entries = []
    for name in state:
        inside = name.startswith(f"{decoder.name}.")
        number, _, rest = name.removeprefix(f"{decoder.name}.").partition(".")
        foreign = _spelled(decoder.name, name)
        aliases = (f"{_OLD}{number}.{rest}",) if inside and twice and layout == "live" else ()
        # What its filter leaves: names with "embed" in them, what trains, and what `named_parameters` does not list.
        if layout == "live" or name == table or "embed" in foreign or name not in parameters:
            entries.append(Entry(foreign, (f"lm.{name}", *rows.get(name, ())), aliases=aliases))
    if layout == "live":
        entries += vision_entries_of(flamingo.vision, _VISION)
    return entries
