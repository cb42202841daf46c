"""Small Flamingos around the language models of the tests, and batches of text and clips for them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.vision import CallableTower
from tests.language_models import DIM, LAYERS, VOCAB, draw_weights, make_language_model
from tests.oracle import Row, Token
from tests.strategies import batches, documents

NEW_TAG, END_OF_CHUNK = VOCAB, VOCAB + 1  # trained rows
KNOWN_TAG = VOCAB - 1  # an entry of the table that no drawn text holds
VISION_DIM, LATENTS, FRAMES, SIDE = 16, 3, 2, 8

TEXT, TAG, PAD = Token("text"), Token("tag", 1), Token("pad")
EXAMPLE_ROWS = (
    (TEXT, TAG, TEXT, TEXT, TAG, TEXT),
    (PAD, PAD, TEXT, TAG, TEXT, TEXT),
    (PAD, TEXT, TEXT, TEXT, TEXT, TEXT),
)

# Llama and Gemma compute their norms and rotations in float32 whatever their weights are in.
BOUNDS = {"llama": 2e-5, "gemma3": 2e-5}


def close(actual: Tensor, expected: Tensor, name: str = "plain") -> None:
    """Equal within what the language model of that name computes in; all models of the tests run in float64."""
    bound = BOUNDS.get(name, 1e-9)
    torch.testing.assert_close(actual, expected, atol=bound, rtol=bound)


def make_block(seed: int = 0, *, closed: bool = False, **options: Any) -> GatedCrossAttentionBlock:
    """A block with drawn weights, its gates open."""
    block = GatedCrossAttentionBlock(DIM, **{"vision_dim": VISION_DIM, "num_heads": 4, **options})
    draw_weights(block, seed + 100)
    with torch.no_grad():
        for gate in (block.attention_gate.gate, block.feed_forward_gate.gate):
            gate.fill_(0.0 if closed else 0.6).add_(0.0 if closed else 2 * gate)
    return block


def make_flamingo(name: str, *, lm: nn.Module | None = None, closed: bool = False, **options: Any) -> Flamingo:
    """A Flamingo in eval mode and float64 with drawn weights; `options` replace arguments of `Flamingo`."""
    lm = make_language_model(name) if lm is None else lm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = draw_weights(nn.Conv2d(3, VISION_DIM, kernel_size=4, stride=4), 1)
        resampler = PerceiverResampler(
            vision_dim=VISION_DIM,
            dim=VISION_DIM,
            num_latents=LATENTS,
            depth=1,
            num_heads=2,
            head_dim=8,
            max_frames=FRAMES,
        )
        blocks = {layer: make_block(layer, closed=closed) for layer in range(0, LAYERS.get(name, 2), 2)}
        arguments: dict[str, Any] = {
            "lm": lm,
            "blocks": blocks,
            "vision": CallableTower(tower, image_size=SIDE),
            "resampler": draw_weights(resampler, 2),
            "media_token_id": NEW_TAG,
            "num_new_tokens": 2,
            "end_token_id": END_OF_CHUNK,
        }
        flamingo = Flamingo(**(arguments | options))
    if flamingo.token_rows is not None:
        draw_weights(flamingo.token_rows, 3)
    return flamingo.double().eval()


@dataclass(frozen=True)
class Batch:
    """Rows of text with a clip of one or two frames at each tag; each column keeps its clip when columns are cut."""

    input_ids: Tensor
    real: Tensor
    document: Tensor
    clips: Tensor  # batch text frames 3 height width; meaningless where no tag stands
    num_frames: Tensor  # batch text
    tag: int = NEW_TAG

    @property
    def is_media(self) -> Tensor:
        return self.input_ids == self.tag

    def arguments(self) -> dict[str, Any]:
        """What `Flamingo` takes: as many frames as the longest clip has; those that do not exist are NaN."""
        num_frames = self.num_frames[self.is_media]
        exists = torch.arange(max([1, *num_frames.tolist()])) < num_frames[:, None]
        pixels = self.clips[self.is_media][:, : exists.shape[1]].masked_fill(
            ~exists[..., None, None, None], float("nan")
        )
        arguments = {"input_ids": self.input_ids, "pixels": pixels, "frame_valid": exists}
        return arguments if self.real.all() else arguments | {"attention_mask": self.real.long()}

    def columns(self, start: int, stop: int | None = None) -> "Batch":
        return self._pick(slice(None), slice(start, stop))

    def row(self, row: int, document: int | None = None) -> "Batch":
        """One row without its pads, or one document of it."""
        real = self.real[row] if document is None else self.real[row] & (self.document[row] == document)
        return self._pick(slice(row, row + 1), real)

    def rows(self, rows: list[int]) -> "Batch":
        return self._pick(rows, slice(None))

    def then(self, other: "Batch") -> "Batch":
        """The columns of another batch behind these."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in _FIELDS}
        return replace(self, **{name: torch.cat(pair, 1) for name, pair in pairs.items()})

    def _pick(self, rows: Any, columns: Any) -> "Batch":
        return replace(self, **{name: getattr(self, name)[rows][:, columns] for name in _FIELDS})


_FIELDS = ("input_ids", "real", "document", "clips", "num_frames")


def make_batch(rows: tuple[Row, ...], seed: int, *, tag: int = NEW_TAG, dtype: torch.dtype = torch.float64) -> Batch:
    """Tokens as drawn, everything else from the seed; pads hold any word, for they must not matter."""
    noise = torch.Generator().manual_seed(seed)
    shape = (len(rows), len(rows[0]))

    def columns(of: Any) -> Tensor:
        return torch.tensor([[of(token) for token in row] for row in rows]).reshape(shape)

    words = torch.randint(3, KNOWN_TAG, shape, generator=noise)
    return Batch(
        input_ids=torch.where(columns(lambda token: token.kind == "tag"), tag, words),
        real=columns(lambda token: token.kind != "pad"),
        document=columns(lambda token: token.document),
        clips=torch.randn(*shape, FRAMES, 3, SIDE, SIDE, generator=noise, dtype=torch.float64).to(dtype),
        num_frames=torch.randint(1, FRAMES + 1, shape, generator=noise),
        tag=tag,
    )


def text_rows(
    *, max_rows: int = 3, max_documents: int = 1, max_segments: int = 4
) -> st.SearchStrategy[tuple[Row, ...]]:
    """Rows of one width with 0 to N tags and pads on either side; rows of pads alone among them."""
    drawn = batches(max_rows=max_rows, max_documents=max_documents, max_items=1, max_segments=max_segments)
    return drawn.filter(lambda rows: bool(rows[0]))


@st.composite
def prompt_rows(draw: st.DrawFn, *, max_rows: int = 3, max_segments: int = 3, padded: bool = True) -> tuple[Row, ...]:
    """Rows that can be continued: at least one token each, pads on the left only."""
    rows = [
        (*draw(documents(number=0, max_items=1, max_segments=max_segments)), draw(st.sampled_from((TEXT, TAG))))
        for _ in range(draw(st.integers(1, max_rows)))
    ]
    width = max(len(row) for row in rows) + (draw(st.integers(0, 2)) if padded else 0)
    if not padded:
        rows = [row[-min(len(row) for row in rows) :] for row in rows]
        return tuple(rows)
    return tuple((PAD,) * (width - len(row)) + row for row in rows)
