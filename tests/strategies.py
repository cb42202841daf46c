"""Hypothesis strategies: they draw layouts as lists of segments and one integer seed; tensors come from the seed."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.ops import MediaLayout
from tests.oracle import Row, Token, seen_slots

seeds = st.integers(min_value=0, max_value=2**16)


@dataclass(frozen=True)
class LayoutCase:
    """A batch of rows, all of one width, and the options of `MediaLayout.from_tokens` they are built with."""

    rows: tuple[Row, ...]
    scope: str = "last"
    direction: str | tuple[str, ...] = "previous"  # of all rows, or one word a row
    grouped: bool = False
    item_ids: tuple[tuple[int, ...], ...] | None = None
    spare_items: int = 0
    says_counts: bool = False
    says_documents: bool = False

    @property
    def width(self) -> int:
        return len(self.rows[0]) if self.rows else 0

    @property
    def directions(self) -> tuple[str, ...]:
        """The direction of each row."""
        return (self.direction,) * len(self.rows) if isinstance(self.direction, str) else self.direction

    @property
    def counts(self) -> list[int]:
        """Items of each row."""
        return [sum(token.items for token in row) for row in self.rows]

    @property
    def ids(self) -> list[list[int]]:
        """Pool ids of each row's slots: as named, or counted through the batch."""
        if self.item_ids is not None:
            return [list(row) for row in self.item_ids]
        starts = [sum(self.counts[:row]) for row in range(len(self.rows))]
        return [list(range(start, start + count)) for start, count in zip(starts, self.counts, strict=True)]

    @property
    def num_items(self) -> int:
        """Size of the pool."""
        return 1 + max((item for row in self.ids for item in row), default=-1) + self.spare_items

    def seen_slots(self) -> list[list[list[int]]]:
        """What the oracle says each token sees, by slot of its row."""
        rules = {"scope": self.scope, "grouped": self.grouped}
        return [seen_slots(row, direction=word, **rules) for row, word in zip(self.rows, self.directions, strict=True)]

    def seen_items(self) -> list[list[list[int]]]:
        """What the oracle says each token sees, by pool id; an item held by two visible slots is there twice."""
        slots = self.seen_slots()
        return [[[ids[slot] for slot in token] for token in row] for ids, row in zip(self.ids, slots, strict=True)]

    def is_media(self) -> Tensor:
        return self._columns(lambda token: token.kind == "tag", torch.bool)

    def valid(self) -> Tensor | None:
        """True where a token is real; None when all are, so that both ways of saying it are drawn."""
        real = self._columns(lambda token: token.kind != "pad", torch.bool)
        return None if real.all() else real

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `MediaLayout.from_tokens`, apart from `is_media`."""
        options: dict[str, Any] = {"scope": self.scope, "direction": self.direction, "valid": self.valid()}
        if self.grouped:
            options["group_consecutive"] = True
        if self.says_counts:
            options["counts"] = torch.tensor(self.counts, dtype=torch.long)
        if self.says_documents:
            options["document"] = self._columns(lambda token: token.document, torch.long)
        if any(token.kind == "tag" and token.items != 1 for row in self.rows for token in row):
            options["per_tag"] = ragged([[t.items for t in row if t.kind == "tag"] for row in self.rows], fill=0)
        if self.item_ids is not None:
            options["item_ids"] = ragged(self.ids, fill=-1)
        return options

    def layout(self) -> MediaLayout:
        return MediaLayout.from_tokens(self.is_media(), **self.options())

    def extended(self, num_tokens: int) -> "LayoutCase":
        """The same batch with text after it, in the document of each row's last real token."""
        added = tuple(row + (Token("text", document=last_document(row)),) * num_tokens for row in self.rows)
        return replace(self, rows=added)

    def _columns(self, of: Any, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[of(token) for token in row] for row in self.rows], dtype=dtype).reshape(
            len(self.rows), self.width
        )


def last_document(row: Row) -> int:
    """Document of the last real token."""
    return next((token.document for token in reversed(row) if token.kind != "pad"), 0)


def ragged(rows: list[list[int]], *, fill: int) -> Tensor:
    """Rows of different lengths as one tensor of integers."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.long).reshape(len(rows), width)


def seen_by(layout: MediaLayout) -> list[list[list[int]]]:
    """What a layout says each token sees, by pool id."""
    ids = layout.item_ids.tolist()
    return [
        [[item for item, may in zip(ids[row], token, strict=True) if may] for token in tokens]
        for row, tokens in enumerate(layout.mask().tolist())
    ]


def tensor(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal noise from the case's seed."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


@st.composite
def documents(draw: st.DrawFn, *, number: int, max_items: int, max_segments: int) -> Row:
    """One document: text runs of up to 3 tokens and tags, in any order; it may be empty."""
    tag = st.integers(1, max_items).map(lambda items: (Token("tag", items, number),))
    text = st.integers(1, 3).map(lambda length: (Token("text", 0, number),) * length)
    segments = draw(st.lists(st.one_of(text, tag), max_size=max_segments))
    return tuple(token for segment in segments for token in segment)


@st.composite
def batches(
    draw: st.DrawFn, *, max_rows: int = 3, max_documents: int = 2, max_items: int = 2, max_segments: int = 5
) -> tuple[Row, ...]:
    """Rows of one width, padded on either side; pads carry any document, for they belong to none."""
    rows = []
    for _ in range(draw(st.integers(1, max_rows))):
        numbers = range(draw(st.sampled_from(range(max_documents, 0, -1))))
        parts = [draw(documents(number=n, max_items=max_items, max_segments=max_segments)) for n in numbers]
        rows.append(tuple(token for part in parts for token in part))
    width = max(len(row) for row in rows) + draw(st.integers(0, 2))
    return tuple(draw(padded(row, width=width)) for row in rows)


@st.composite
def padded(draw: st.DrawFn, row: Row, *, width: int) -> Row:
    """The row in the middle of pads."""
    left = draw(st.integers(0, width - len(row)))
    pad = Token("pad", document=draw(st.integers(0, 2)))
    return (pad,) * left + row + (pad,) * (width - left - len(row))


@st.composite
def layout_cases(
    draw: st.DrawFn,
    *,
    scopes: tuple[str, ...] = ("last", "all"),
    directions: tuple[str, ...] = ("previous", "next", "mixed"),
    grouping: bool = True,
    tiles: bool = True,
    packed: bool = True,
    shared: bool = True,
    max_rows: int = 3,
    max_segments: int = 5,
) -> LayoutCase:
    """Layouts of the whole family: scopes, directions, groups, tiles, packed documents, shared items, pads."""
    scope = draw(st.sampled_from(scopes))
    direction = draw(st.sampled_from(directions if scope == "last" else ("previous",)))
    grouped = grouping and direction == "previous" and draw(st.booleans())
    says_documents = packed and draw(st.booleans())
    rows = draw(
        batches(
            max_rows=max_rows,
            max_documents=3 if says_documents else 1,
            max_items=2 if tiles and draw(st.booleans()) else 1,
            max_segments=max_segments,
        )
    )
    if direction == "mixed":
        direction = draw(st.tuples(*[st.sampled_from(["previous", "next"])] * len(rows)))
    case = LayoutCase(rows, scope, direction, grouped, says_counts=draw(st.booleans()), says_documents=says_documents)
    if shared and draw(st.booleans()):
        case = draw(with_shared_items(case))
    return case


@st.composite
def with_shared_items(draw: st.DrawFn, case: LayoutCase) -> LayoutCase:
    """The same rows over a pool whose items several slots may name, and some items none."""
    size = draw(st.integers(1, 4))
    names = tuple(tuple(draw(st.lists(st.integers(0, size - 1), min_size=n, max_size=n))) for n in case.counts)
    return replace(case, item_ids=names, spare_items=draw(st.integers(0, 1)))


def single_item_cases(**options: Any) -> st.SearchStrategy[LayoutCase]:
    """Layouts in which every token sees at most one item: the ones a block-diagonal backend takes."""
    return layout_cases(scopes=("last",), grouping=False, tiles=False, **options)


def heavy(share: int = 2) -> settings:
    """The profile in force with fewer examples, for properties that build modules."""
    return settings(max_examples=max(5, settings.default.max_examples // share))


def light(times: int = 2) -> settings:
    """The profile in force with more examples, for properties that cost next to nothing."""
    return settings(max_examples=settings.default.max_examples * times)


@st.composite
def block_options(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a small `GatedCrossAttentionBlock`, every option of the family among them."""
    num_heads, num_kv_heads = draw(st.sampled_from([(2, None), (2, 1), (4, 2), (1, 1)]))
    return {
        "dim": 8,
        "vision_dim": draw(st.sampled_from([6, 8])),
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": draw(st.sampled_from([None, 3, 8])),
        "ff_mult": draw(st.sampled_from([1.0, 2.5])),
        "activation": draw(st.sampled_from(["squared_relu", "gelu", "relu", "silu", "swiglu"])),
        "norm": draw(st.sampled_from(["layer_norm", "rms_norm"])),
        "media_norm": draw(st.booleans()),
        "qk_norm": draw(st.sampled_from([None, "rms_norm", "layer_norm"])),
        "gate": draw(st.sampled_from(["scalar", "channel"])),
        "dense_without_media": draw(st.booleans()),
    }


def make_block(options: dict[str, Any], seed: int, *, dtype: torch.dtype = torch.float64, closed: bool = False) -> Any:
    """A block whose weights come from the seed; norms and gates are moved off their starting points too."""
    block = GatedCrossAttentionBlock(**options).to(dtype)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in block.named_parameters():
            gate = "gate.gate" in name
            scale = 0.0 if gate and closed else weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5
            weight.copy_(float(weight.ndim == 1 and not gate) + scale * tensor(noise, *weight.shape))
    return block


@st.composite
def resampler_options(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a small `PerceiverResampler`, every option among them."""
    return {
        "vision_dim": draw(st.sampled_from([6, 8])),
        "dim": 8,
        "num_latents": draw(st.integers(1, 3)),
        "depth": draw(st.integers(1, 2)),
        "num_heads": draw(st.sampled_from([1, 2])),
        "head_dim": draw(st.sampled_from([3, 4])),
        "ff_mult": 2.0,
        "max_frames": draw(st.integers(0, 3)),
        "activation": draw(st.sampled_from(["squared_relu", "gelu", "relu", "silu", "swiglu"])),
        "norm": draw(st.sampled_from(["layer_norm", "rms_norm"])),
        "qk_norm": draw(st.sampled_from([None, "rms_norm", "layer_norm"])),
        "final_norm": draw(st.booleans()),
    }


def make_resampler(options: dict[str, Any], seed: int, **more: Any) -> PerceiverResampler:
    """A resampler in float64 whose weights come from the seed, norms included."""
    resampler = PerceiverResampler(**options, **more).double()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in resampler.named_parameters():
            scale = weight.shape[-1] ** -0.5 if "proj" in name else 0.5
            weight.copy_(float("norm.weight" in name) + scale * tensor(noise, *weight.shape))
    return resampler
