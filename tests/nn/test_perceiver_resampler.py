"""The resampler in examples: frame embeddings, leading axes, and what each slip is told."""

import pytest
import torch

from flamingo_blocks.nn import PerceiverResampler
from tests.strategies import make_resampler, tensor

OPTIONS = {"vision_dim": 6, "dim": 8, "num_latents": 3, "depth": 1, "num_heads": 2, "head_dim": 4}


def test_frame_embeddings_are_stretched_with_both_ends_kept():
    """Five frames over three learned embeddings get the first, the middles, the second, and the last."""
    resampler = make_resampler(OPTIONS | {"max_frames": 3}, 0)
    one, two, three = resampler.frame_embeddings.detach()
    expected = torch.stack([one, (one + two) / 2, two, (two + three) / 2, three])
    torch.testing.assert_close(resampler._embed_frames(5, None), expected)


def test_clips_in_one_batch_are_stretched_each_by_its_own_length():
    """A clip of two frames and one of four, padded to four, get the embeddings that they get alone."""
    resampler = make_resampler(OPTIONS | {"max_frames": 2}, 0)
    valid = torch.tensor([[True, True, False, False], [True] * 4])[..., None]
    embedded = resampler._embed_frames(4, valid)
    torch.testing.assert_close(embedded[0, :2], resampler._embed_frames(2, None))
    torch.testing.assert_close(embedded[1], resampler._embed_frames(4, None))


def test_one_learned_frame_serves_any_clip():
    """With `max_frames=1` every frame gets the one embedding."""
    resampler = make_resampler(OPTIONS | {"max_frames": 1}, 0)
    torch.testing.assert_close(resampler._embed_frames(3, None), resampler.frame_embeddings.expand(3, -1))


def test_order_of_frames_counts_only_with_embeddings(generator, assert_close):
    """Without frame embeddings a clip is a bag of patches; with them its order is seen."""
    clip = tensor(generator, 1, 3, 4, 6)
    without, with_them = (make_resampler(OPTIONS | {"max_frames": n}, 0) for n in (0, 3))
    assert_close(without(clip.flip(1)), without(clip))
    assert not torch.allclose(with_them(clip.flip(1)), with_them(clip))


def test_one_item_needs_no_leading_axis(generator, assert_close):
    """A single clip without an item axis comes out as it does in a pool, mask included."""
    resampler = make_resampler(OPTIONS, 0)
    clip = tensor(generator, 2, 4, 6)
    valid = torch.rand(2, 4, generator=generator) < 0.5
    assert_close(resampler(clip, valid), resampler(clip[None], valid[None])[0])


def test_item_without_any_patch_is_finite(generator):
    """An item whose patches are all padding becomes its latents, changed by themselves alone."""
    resampler = make_resampler(OPTIONS, 0)
    clip = tensor(generator, 2, 1, 4, 6)
    valid = torch.tensor([[[False] * 4], [[True] * 4]])
    out = resampler(clip, valid)
    assert out.isfinite().all()
    assert torch.equal(out[0], resampler(clip * 2, valid)[0])


def test_output_is_no_view(generator):
    """A module that ends in a view breaks the hooks of sharding."""
    assert not make_resampler(OPTIONS, 0)(tensor(generator, 2, 1, 4, 6))._is_view()


def test_autocast_and_bfloat16(generator):
    """The resampler runs in bfloat16 and under autocast, near the exact result."""
    resampler = PerceiverResampler(**OPTIONS)
    clip = tensor(generator, 2, 1, 4, 6, dtype=torch.float32)
    expected = resampler(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = resampler(clip)
    torch.testing.assert_close(near.float(), expected, atol=0.15, rtol=0.1)
    out = resampler.bfloat16()(clip)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.15, rtol=0.1)


@pytest.mark.parametrize("name", ["vision_dim", "dim", "num_latents", "depth", "num_heads", "head_dim"])
def test_sizes_below_one_are_told(name):
    """Each size is checked when the resampler is built."""
    with pytest.raises(ValueError, match=f"^{name} is 0, wanted 1 or more"):
        PerceiverResampler(**OPTIONS | {name: 0})


def test_negative_max_frames_is_told():
    """0 means no frame embedding; less has no meaning."""
    with pytest.raises(ValueError, match="max_frames is -1, wanted 0"):
        PerceiverResampler(**OPTIONS, max_frames=-1)


@pytest.mark.parametrize(
    ("vision", "valid", "message"),
    [
        ((2, 1, 4, 5), None, r"\(2, 1, 4, 5\), wanted \[\*lead frames patches 6\], the width that the"),
        ((4, 6), None, r"vision has shape \(4, 6\).*an image is a clip of one frame"),
        ((2, 1, 4, 6), (2, 4), r"valid is torch.bool of shape \(2, 4\), wanted bool of shape \(2, 1, 4\)"),
    ],
    ids=["width", "axes", "valid"],
)
def test_wrong_shape_is_told(vision, valid, message, without_shape_checks):
    """The library says itself which shape does not fit, and how to add the frame axis of an image."""
    flags = None if valid is None else torch.ones(valid, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        PerceiverResampler(**OPTIONS)(torch.zeros(vision), flags)
