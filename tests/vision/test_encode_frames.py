"""A pool of images and clips goes through the tower once, frame by frame, pads excepted."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.vision import CallableTower, PatchTokens, encode_frames
from tests.host_reads import NoHostReads
from tests.strategies import seeds, tensor

unchecked = inspect.unwrap  # without the shape checks of the tests, as users call it


class CountingTower(nn.Module):
    """Four patches a frame: their colour means; it counts its frames, and masks patches only where some are missing."""

    dim, grid = 3, (2, 2)
    preprocess = staticmethod(torch.as_tensor)

    def __init__(self, *, masks_patches: bool = False):
        super().__init__()
        self.calls: list[int] = []
        self.masks_patches = masks_patches

    def forward(self, pixels):
        self.calls.append(len(pixels))
        tokens = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(2).mT
        valid = tokens[..., 0] > -0.5  # half of the frames have all patches
        return PatchTokens(tokens=tokens, valid=valid if self.masks_patches and not valid.all() else None)


@st.composite
def pools(draw):
    """Pixels of a pool, which of its frames exist, and the seed."""
    items, frames = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    exists = draw(st.lists(st.booleans(), min_size=items * frames, max_size=items * frames))
    generator = torch.Generator().manual_seed(draw(seeds))
    return tensor(generator, items, frames, 3, 4, 4), torch.tensor(exists, dtype=torch.bool).reshape(items, frames)


@given(pools(), st.booleans(), st.sampled_from([None, 1, 2]))
def test_frames_that_do_not_exist_never_reach_the_tower(pool, masks_patches, most):
    """The tower gets exactly the existing frames, and the NaN of the others shows up nowhere."""
    pixels, exists = pool
    tower = CountingTower(masks_patches=masks_patches)
    poisoned = pixels.masked_fill(~exists[..., None, None, None], math.nan)
    features, valid = encode_frames(tower, poisoned, exists, max_frames_per_call=most)
    assert sum(tower.calls) == exists.sum()
    assert all(0 < call <= (most or math.inf) for call in tower.calls)
    assert features.isfinite().all()
    assert (features[~exists] == 0).all()
    assert valid is None or not valid[~exists].any()


@given(pools(), st.booleans(), st.sampled_from([None, 1, 2]))
def test_every_frame_gets_the_features_it_has_alone(pool, masks_patches, most):
    """A pool's features are those of a loop over its frames, in the pool's order."""
    pixels, exists = pool
    tower = CountingTower(masks_patches=masks_patches)
    features, valid = encode_frames(tower, pixels, exists, max_frames_per_call=most)
    assert features.shape == (*exists.shape, 4, 3)
    for item, frame in exists.nonzero().tolist():
        alone = tower(pixels[item, frame][None])
        assert torch.equal(features[item, frame], alone.tokens[0])
        seen = torch.ones(4, dtype=torch.bool) if alone.valid is None else alone.valid[0]
        assert torch.equal(seen if valid is None else valid[item, frame], seen)


@given(pools())
def test_a_pool_without_pads_needs_no_mask(pool):
    """Frames that all exist give the same as no mask at all, and the tower is asked once."""
    pixels, exists = pool
    tower = CountingTower()
    said, said_valid = encode_frames(tower, pixels, torch.ones_like(exists))
    unsaid, unsaid_valid = encode_frames(tower, pixels)
    assert torch.equal(said, unsaid)
    assert said_valid is None
    assert unsaid_valid is None
    assert len(tower.calls) == (2 if pixels.numel() else 0)


def test_gradients_reach_existing_frames_only():
    """Pixels that want a gradient get it where a frame exists, and zeros elsewhere."""
    pixels = torch.rand(2, 2, 3, 4, 4, requires_grad=True)
    exists = torch.tensor([[True, False], [True, True]])
    encode_frames(CountingTower(), pixels, exists)[0].sum().backward()
    assert torch.equal(pixels.grad.flatten(2).any(-1), exists)


@pytest.mark.parametrize("items", [0, 2])
def test_no_frame_at_all_keeps_the_tower_still(items):
    """An empty pool, or one of pads alone, gives zeros of the right shape and of the tower's dtype."""
    tower = CallableTower(nn.Conv2d(3, 8, 4, stride=4).bfloat16(), image_size=8)
    tower.encoder.register_forward_hook(lambda *_: pytest.fail("the tower ran"))
    exists = torch.zeros(items, 3, dtype=torch.bool)
    features, valid = encode_frames(tower, torch.zeros(items, 3, 3, 8, 8), exists)
    assert features.shape == (items, 3, 4, 8)
    assert features.dtype == torch.bfloat16
    assert valid is None or valid.shape == (items, 3, 4)


def test_shapes_are_known_on_the_meta_device():
    """Without data, every frame counts as existing."""
    tower = CallableTower(nn.Conv2d(3, 8, 4, stride=4, device="meta"), image_size=8)
    features, _ = encode_frames(
        tower, torch.empty(2, 3, 3, 8, 8, device="meta"), torch.empty(2, 3, dtype=torch.bool, device="meta")
    )
    assert features.shape == (2, 3, 4, 8)
    assert features.device.type == "meta"


@pytest.mark.parametrize(
    ("pixels", "exists", "most", "message"),
    [
        (torch.zeros(2, 3, 4, 4), None, None, r"pixels has shape \[2, 3, 4, 4\].*pixels\[:, None\]"),
        (torch.zeros(2, 1, 4, 4, 3), None, None, r"pixels has shape \[2, 1, 4, 4, 3\]"),
        (torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8), None, None, "dtype torch.uint8, wanted floating"),
        (torch.zeros(2, 1, 3, 4, 4), torch.ones(2, dtype=torch.bool), None, r"frame_valid has shape \[2\].*\[2, 1\]"),
        (torch.zeros(2, 1, 3, 4, 4), torch.ones(2, 1), None, "frame_valid has .* dtype torch.float32, wanted bool"),
        (torch.zeros(2, 1, 3, 4, 4), None, 0, "max_frames_per_call is 0"),
    ],
)
def test_wrong_pools_are_refused(pixels, exists, most, message):
    """The error names the argument, what came and what was wanted."""
    with pytest.raises(ValueError, match=message):
        unchecked(encode_frames)(CountingTower(), pixels, exists, max_frames_per_call=most)


@given(pools())
def test_choosing_frames_reads_no_device(pool):
    """Flags on the CPU are read there, by no operation that would wait for a device."""
    pixels, exists = pool
    tower = CountingTower()
    with NoHostReads():
        encode_frames(tower, pixels, exists)
    assert sum(tower.calls) == exists.sum()
