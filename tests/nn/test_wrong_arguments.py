"""What the parts say about tensors of the wrong kind, and about sizes that are none."""

import numpy as np
import pytest
import torch

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, PerceiverResampler
from flamingo_blocks.nn import FeedForward, TanhGate

pytestmark = pytest.mark.usefixtures("without_shape_checks")


def call(**changed):
    """A block on one image, one argument of another kind."""
    layout = MediaLayout.from_tokens(torch.tensor([[True, False]]))
    given = {"text": torch.zeros(1, 2, 16), "media": torch.zeros(1, 3, 8), "layout": layout}
    return GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)(**{**given, **changed})


def resampler(**changed):
    """A small resampler, one argument of another kind."""
    sizes = {"vision_dim": 8, "dim": 8, "num_latents": 2, "depth": 1, "num_heads": 1, "head_dim": 8}
    return PerceiverResampler(**{**sizes, **changed})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"text": torch.zeros(1, 2, 16).long()}, ValueError, r"text is torch.int64 of shape \(1, 2, 16\), wanted"),
        ({"media": torch.zeros(1, 3, 8).long()}, ValueError, r"media is torch.int64 .* with media.float\(\)"),
        ({"media": torch.zeros(1, 1, 3, 8).byte()}, ValueError, "media is torch.uint8"),
        ({"media": np.zeros((1, 3, 8), np.float32)}, TypeError, "media is a ndarray, wanted a tensor of floats"),
        ({"media": [[[0.0] * 8]]}, TypeError, r"media is a list, wanted a tensor of floats \[items latents 8\]"),
        ({"text": [[0.0] * 16]}, TypeError, "text is a list"),
    ],
)  # fmt: skip
def test_a_block_computes_with_tensors_of_floats_alone(changed, error, message):
    """Integers would come back as integers, and the update be cut off."""
    with pytest.raises(error, match=message):
        call(**changed)


def test_media_are_projected_from_floats_alone():
    """The same holds where they are projected once for many calls."""
    block = GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)
    with pytest.raises(ValueError, match="media is torch.int64"):
        block.project_media(torch.zeros(1, 3, 8).long())


def test_patches_are_floats():
    """Pixels as bytes are no patch features."""
    with pytest.raises(ValueError, match="vision is torch.uint8 .* wanted floats"):
        resampler()(torch.zeros(1, 1, 4, 8).byte())
    with pytest.raises(TypeError, match="vision is a ndarray"):
        resampler()(np.zeros((1, 1, 4, 8), np.float32))


@pytest.mark.parametrize(
    ("item_ids", "error", "message"),
    [
        (torch.tensor([[0.9, 1.9]]), ValueError, r"item_ids is torch.float32 of shape \(1, 2\), wanted integers"),
        (torch.tensor([[True, False]]), ValueError, "item_ids is torch.bool"),
        ([[0, 1]], TypeError, r"item_ids is a list, wanted a tensor of ids \[1 media\]"),
    ],
)
def test_ids_of_items_are_a_tensor_of_integers(item_ids, error, message):
    """0.9 is no id."""
    with pytest.raises(error, match=message):
        MediaLayout.from_tokens(torch.tensor([[True, True]]), item_ids=item_ids)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedCrossAttentionBlock(48.0, vision_dim=8, num_heads=2), "dim is 48.0, wanted a whole number"),
        (lambda: GatedCrossAttentionBlock(48, vision_dim=8.0, num_heads=2), "vision_dim is 8.0, wanted a whole"),
        (lambda: GatedCrossAttentionBlock(48, vision_dim=8, num_heads="2"), "num_heads is '2', wanted a whole number"),
        (lambda: GatedCrossAttentionBlock(48, vision_dim=8, num_heads=2, num_kv_heads=1.0), "num_kv_heads is 1.0"),
        (lambda: GatedCrossAttentionBlock(48, vision_dim=8, num_heads=2, hidden_dim=9.5), "hidden_dim is 9.5"),
        (lambda: FeedForward("16"), "^dim is '16', wanted a whole number"),
        (lambda: FeedForward(True), "^dim is True"),
        (lambda: resampler(dim=16.0), "^dim is 16.0, wanted a whole number"),
        (lambda: resampler(max_frames=2.5), "max_frames is 2.5, wanted a whole number"),
    ],
)
def test_sizes_are_whole_numbers(make, message):
    """Torch would say something else, or build a module that fails later."""
    with pytest.raises(TypeError, match=message):
        make()


def test_sizes_of_numpy_are_whole_numbers():
    """They come out of configs and shapes."""
    assert GatedCrossAttentionBlock(np.int64(16), vision_dim=np.int32(8), num_heads=2).attention.head_dim == 8


def test_the_gate_is_named_as_the_argument_is():
    """A block calls it `gate`; the gate alone calls it `shape`."""
    with pytest.raises(ValueError, match='^gate is \'sigmoid\', wanted "scalar" or "channel"$'):
        GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2, gate="sigmoid")
    with pytest.raises(ValueError, match="^shape is 'sigmoid'"):
        TanhGate("sigmoid")
