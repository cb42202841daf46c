"""A wrong call of each public entry point names the page on its family of errors."""

import traceback
from unittest.mock import patch

import pytest
import torch

from flamingo_blocks import (
    Flamingo,
    GatedCrossAttentionBlock,
    MediaLayout,
    PerceiverResampler,
    attach,
    media_attention,
)
from flamingo_blocks.data import FlamingoExample, InterleavedDocument, collate
from flamingo_blocks.data.records import read_documents_parquet
from flamingo_blocks.data.video import encode_clip
from flamingo_blocks.errors import (
    BackendRefusedError,
    CheckpointError,
    LayersNotFoundError,
    MediaMaskError,
    MissingDependencyError,
    ShapeError,
)
from flamingo_blocks.interop import open_checkpoint
from flamingo_blocks.models import PaperLanguageModel
from flamingo_blocks.ops import linear_cross_entropy
from flamingo_blocks.training.contrast import contrastive_loss
from flamingo_blocks.vision import CallableTower, ImagePreprocess, encode_frames
from tests.test_error_pages import LINK, error_of

IMAGE = torch.tensor([[True, False, True]])
FLAT = torch.zeros(1, 3, 32)


def attention(*, text: int = 3, heads: int = 2, items: int = 2, backend: str = "auto") -> torch.Tensor:
    media = torch.zeros(items, 4, 2, 8)
    return media_attention(
        torch.zeros(1, text, heads, 8), media, media, MediaLayout.from_tokens(IMAGE), backend=backend
    )


def a_block() -> GatedCrossAttentionBlock:
    return GatedCrossAttentionBlock(dim=32, vision_dim=16, num_heads=2)


def a_flamingo() -> Flamingo:
    lm = PaperLanguageModel(vocab_size=32, dim=32, depth=1, num_heads=2)
    return Flamingo(lm=lm, blocks={0: a_block()}, media_token_id=32, num_new_tokens=1)


def a_resampler() -> PerceiverResampler:
    return PerceiverResampler(vision_dim=8, dim=16, num_latents=2, depth=1, num_heads=1, head_dim=8)


def a_tower() -> CallableTower:
    return CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=8)


def example(**changed) -> FlamingoExample:
    values = {"input_ids": (32, 5), "tags": (0,), "features": (torch.zeros(1, 2, 8),), **changed}
    return FlamingoExample(**values)


def hidden_parquet() -> object:
    with patch.dict("sys.modules", {"pyarrow": None}):
        return list(read_documents_parquet("documents.parquet"))


PROVOKED = {
    "media_attention, heads": (ShapeError, lambda: attention(heads=3)),
    "media_attention, text": (ShapeError, lambda: attention(text=4)),
    "media_attention, pool": (MediaMaskError, lambda: attention(items=1)),
    "media_attention, backend": (BackendRefusedError, lambda: attention(backend="one_token")),
    "MediaLayout.from_tokens, kind": (MediaMaskError, lambda: MediaLayout.from_tokens(IMAGE.long())),
    "MediaLayout.from_tokens, direction": (
        MediaMaskError,
        lambda: MediaLayout.from_tokens(IMAGE, scope="all", direction="next"),
    ),
    "MediaLayout.from_tokens, ids": (
        MediaMaskError,
        lambda: MediaLayout.from_tokens(IMAGE, item_ids=torch.tensor([[0]])),
    ),
    "MediaLayout.from_grid": (MediaMaskError, lambda: MediaLayout.from_grid(IMAGE, num_media=1)),
    "linear_cross_entropy": (
        ShapeError,
        lambda: linear_cross_entropy(torch.zeros(1, 3, 8), torch.zeros(5, 9), torch.zeros(1, 3, dtype=torch.long)),
    ),
    "GatedCrossAttentionBlock, heads": (ShapeError, lambda: GatedCrossAttentionBlock(32, vision_dim=16, num_heads=5)),
    "GatedCrossAttentionBlock, media": (
        ShapeError,
        lambda: a_block()(FLAT, torch.zeros(2, 4, 8), MediaLayout.from_tokens(IMAGE)),
    ),
    "PerceiverResampler": (ShapeError, lambda: a_resampler()(torch.zeros(1, 1, 4, 9))),
    "attach": (LayersNotFoundError, lambda: attach(torch.nn.Linear(2, 2), {0: a_block()})),
    "Flamingo, parts": (
        ShapeError,
        lambda: Flamingo(
            lm=PaperLanguageModel(vocab_size=32, dim=16, depth=1, num_heads=2),
            blocks={0: a_block()},
            media_token_id=32,
            num_new_tokens=1,
        ),
    ),
    "Flamingo, tags": (MediaMaskError, lambda: a_flamingo()(torch.tensor([[32, 5]]), media=torch.zeros(2, 4, 16))),
    "Flamingo, labels": (
        ShapeError,
        lambda: a_flamingo()(torch.tensor([[1, 5]]), labels=torch.tensor([[1]]), media=torch.zeros(0, 4, 16)),
    ),
    "Flamingo.generate, pads": (
        MediaMaskError,
        lambda: a_flamingo().generate(
            torch.tensor([[1, 5]]), attention_mask=torch.tensor([[1, 0]]), media=torch.zeros(0, 4, 16)
        ),
    ),
    "Flamingo.from_pretrained": (CheckpointError, lambda: Flamingo.from_pretrained("no-such-folder")),
    "open_checkpoint": (CheckpointError, lambda: open_checkpoint("no-such-file.pt")),
    "encode_frames": (ShapeError, lambda: encode_frames(a_tower(), torch.zeros(1, 3, 8, 8))),
    "CallableTower": (ShapeError, lambda: a_tower()(torch.zeros(1, 3, 12, 12))),
    "CallableTower, dim": (
        ShapeError,
        lambda: CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=8, dim=9),
    ),
    "ImagePreprocess": (ShapeError, lambda: ImagePreprocess(8)(torch.zeros(2, 8, 8))),
    "collate, tags": (MediaMaskError, lambda: collate([example(tags=(0, 1))], pad_id=0)),
    "collate, items": (
        ShapeError,
        lambda: collate([example(), example(features=(torch.zeros(1, 2, 9),))], pad_id=0),
    ),
    "InterleavedDocument": (MediaMaskError, lambda: InterleavedDocument.from_tagged("<image>", [])),
    "encode_clip": (ShapeError, lambda: encode_clip([torch.zeros(8, 8, 3, dtype=torch.uint8)])),
    "contrastive_loss": (
        ShapeError,
        lambda: contrastive_loss(torch.zeros(2, 4), torch.zeros(3, 4), log_scale=torch.tensor(0.0)),
    ),
    "read_documents_parquet": (MissingDependencyError, hidden_parquet),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("kind", "call"), PROVOKED.values(), ids=PROVOKED)
def test_a_public_call_that_goes_wrong_names_its_page(kind, call):
    """A wrong call of each public entry point raises the class of its family, with the link in its traceback."""
    error = error_of(call)
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    assert "flamingo-blocks explain" not in str(error)
    assert "".join(traceback.format_exception(error)).endswith(LINK.format(kind.page) + "\n")
