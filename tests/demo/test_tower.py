"""The demo's vision encoder."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.demo.images import Digits
from flamingo_blocks.demo.tower import DigitReader, DigitTower, train_tower
from flamingo_blocks.vision import VisionTower, encode_frames


def test_it_is_a_vision_tower():
    """It has what the protocol wants, and gives a token for each patch of its grid."""
    tower = DigitTower(dim=16)
    assert isinstance(tower, VisionTower)
    features, valid = encode_frames(tower, torch.zeros(5, 1, 3, 8, 8))
    assert features.shape == (5, 1, tower.grid[0] * tower.grid[1], tower.dim)
    assert valid is None


def test_standardising_gives_each_channel_mean_zero_and_spread_one():
    """After it the features of these images have mean 0 and standard deviation 1 in each channel."""
    tower = DigitTower(dim=16)
    pixels = torch.rand(50, 3, 8, 8)
    tower.standardise(pixels)
    with torch.no_grad():
        tokens = tower(pixels).tokens
    torch.testing.assert_close(tokens.mean(dim=(0, 1)), torch.zeros(16), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(tokens.flatten(0, 1).std(dim=0), torch.ones(16), atol=1e-3, rtol=0.0)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_images_of_any_size_become_eight_by_eight(height, width):
    """Preprocessing keeps values between 0 and 1, and fills images that are not square with black."""
    pixels = DigitTower(dim=8).preprocess(torch.ones(3, height, width))
    assert pixels.shape == (3, 8, 8)
    assert 0 <= pixels.min() <= pixels.max() <= 1
    share = min(height, width) / max(height, width)
    assert pixels.mean().item() == pytest.approx(share, abs=0.2)


def test_a_magnified_image_is_read_as_the_original():
    """Each pixel repeated eight times in both directions averages back to itself."""
    image = torch.rand(3, 8, 8)
    magnified = image.repeat_interleave(8, 1).repeat_interleave(8, 2)
    torch.testing.assert_close(DigitTower(dim=8).preprocess(magnified), image)


def test_training_lowers_the_loss_and_freezes(generator):
    """A few steps on a few digits make them easier to read; afterwards nothing is trained any more."""
    digits = Digits(torch.rand(10, 8, 8, generator=generator), torch.arange(10))
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reader = DigitReader(DigitTower(dim=16))
        train_tower(reader, digits, steps=30, seed=0, on_step=lambda report: losses.append(report.losses["digits"]))
    assert losses[-1] < losses[0] - 0.3
    assert not any(parameter.requires_grad for parameter in reader.parameters())
