"""Images are mirrored and recoloured pixel by pixel; what pads them stays the mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.examples import AugmentImages, ImageChange, KeyedDraws
from flamingo_blocks.vision import ImagePreprocess
from tests.strategies import seeds

factors = st.floats(0.0, 2.0)
changes = st.fixed_dictionaries(
    {"brightness": factors, "contrast": factors, "saturation": factors, "hue": st.floats(-0.5, 0.5)}
)
LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def an_image(seed, *, frames=()):
    return torch.rand(*frames, 3, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_step_after_the_other(rgb, *, brightness, contrast, saturation, hue):
    """The change written out: turn the hue, then saturate, brighten, and spread about middle grey."""
    grey = (rgb * LUMA.reshape(3, 1, 1)).sum(-3, keepdim=True)
    red_cyan = (rgb[..., :1, :, :] - grey) / (1 - 0.299)
    to_iq = torch.tensor([[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]], dtype=torch.float64)
    assert red_cyan.shape == grey.shape
    in_phase, quadrature = torch.einsum("ac,...chw->a...hw", to_iq, rgb)
    angle = torch.tensor(2 * torch.pi * hue, dtype=torch.float64)
    turned = torch.stack(
        [
            grey.squeeze(-3),
            in_phase * angle.cos() - quadrature * angle.sin(),
            in_phase * angle.sin() + quadrature * angle.cos(),
        ],
        -3,
    )
    from_yiq = torch.linalg.inv(torch.cat([LUMA[None], to_iq]))
    rgb = torch.einsum("ca,...ahw->...chw", from_yiq, turned)
    rgb = (grey + saturation * (rgb - grey)) * brightness
    return (0.5 + contrast * (rgb - 0.5)).clamp(0, 1)


@given(seeds, changes, st.booleans())
def test_a_change_is_its_steps_one_after_the_other(seed, change, flipped):
    """One matrix does what the steps do in turn, and mirroring changes places only."""
    rgb = an_image(seed)
    changed = ImageChange(flipped=flipped, **change)(rgb)
    expected = one_step_after_the_other(rgb, **change)
    torch.testing.assert_close(changed, expected.flip(-1) if flipped else expected, atol=1e-9, rtol=0)


@given(seeds, changes, st.booleans())
def test_all_frames_of_a_clip_change_alike(seed, change, flipped):
    """What happens to a pixel depends on its colour and on the draw, not on the rest of the image."""
    same = ImageChange(flipped=flipped, **change)
    clip = an_image(seed, frames=(3,))
    torch.testing.assert_close(same(clip), torch.stack([same(frame) for frame in clip]), atol=1e-12, rtol=0)
    crop = clip[0, :, 1:3]
    torch.testing.assert_close(same(clip)[0, :, 1:3], same(crop), atol=1e-12, rtol=0)


@given(seeds)
def test_no_change_is_the_same_image(seed):
    """The neutral change gives back every bit, and two flips do."""
    rgb = an_image(seed)
    assert ImageChange()(rgb) is rgb
    assert torch.equal(ImageChange(flipped=True)(ImageChange(flipped=True)(rgb)), rgb)


@given(seeds, changes)
def test_bytes_are_changed_as_floats_are(seed, change):
    """Bytes in, bytes out: the rounded floats."""
    image = (an_image(seed) * 255).round().to(torch.uint8)
    changed = ImageChange(**change)(image)
    assert changed.dtype == torch.uint8
    floats = ImageChange(**change)(image.double() / 255) * 255
    assert ((changed.double() - floats).abs() <= 0.5 + 1e-4).all()


@given(st.floats(0, 1), factors, st.floats(-0.5, 0.5))
def test_greys_have_neither_saturation_nor_hue(value, saturation, hue):
    """A grey stays the same grey."""
    grey = torch.full((3, 2, 2), value, dtype=torch.float64)
    torch.testing.assert_close(ImageChange(saturation=saturation, hue=hue)(grey), grey, atol=1e-6, rtol=0)


@given(st.integers(0, 1000), st.integers(0, 5))
def test_draws_stay_within_their_reach(key, item):
    """Each factor lies within its reach of 1, and the same key and item draw the same change."""
    augment = AugmentImages(brightness=0.3, contrast=0.1, saturation=1.0, hue=0.05)
    change = augment.draw(KeyedDraws(key), item)
    assert change == augment.draw(KeyedDraws(key), item)
    assert change != augment.draw(KeyedDraws(key), item + 1)
    for name, reach in (("brightness", 0.3), ("contrast", 0.1), ("saturation", 1.0)):
        assert abs(getattr(change, name) - 1.0) <= reach
    assert abs(change.hue) <= 0.05


def test_each_image_of_a_sample_is_drawn_by_itself():
    """Neither the flip nor a factor of one image tells that of another."""
    drawn = [[AugmentImages().draw(KeyedDraws(key), item) for item in range(2)] for key in range(40)]
    for name in ("flipped", "brightness", "contrast", "saturation", "hue"):
        assert any(getattr(one, name) != getattr(other, name) for one, other in drawn)


def test_half_of_the_images_are_mirrored():
    """The paper mirrors at random; no colour changes where no reach is given."""
    augment = AugmentImages(flip=0.5, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    drawn = [augment.draw(KeyedDraws(key), 0) for key in range(400)]
    assert abs(sum(change.flipped for change in drawn) - 200) < 50
    assert set(drawn) == {ImageChange(), ImageChange(flipped=True)}


@given(seeds, changes, st.booleans())
def test_padding_stays_the_mean(seed, change, flipped):
    """Images are changed after the resize and before they are padded, so what pads them is 0 once normalised."""
    image = (an_image(seed) * 255).to(torch.uint8)  # 4 x 6
    preprocess = ImagePreprocess((12, 12), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    augment = ImageChange(flipped=flipped, **change)
    pixels = preprocess(image, augment=augment)
    assert (pixels[:, :2] == 0).all()
    assert (pixels[:, 10:] == 0).all()
    plain = preprocess(image)[:, 2:10] * 0.2 + torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1)
    found = pixels[:, 2:10] * 0.2 + torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1)
    torch.testing.assert_close(found, augment(plain.clamp(0, 1)), atol=1e-5, rtol=0)


def test_a_reach_beyond_its_bounds_is_refused():
    """A reach lies from 0 to 1."""
    with pytest.raises(ValueError, match="hue is -1.0, wanted a number from 0 to 1"):
        AugmentImages(hue=-1.0)
