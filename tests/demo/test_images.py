"""Digits and colours, what is held out of them, and draws of images."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import (
    NUM_PAIRS,
    SEEN_PAIRS,
    UNSEEN_PAIRS,
    Digits,
    augment,
    load_digits_images,
    pair_words,
    tint,
    tint_with_pairs,
)


def test_fifteen_pairs_are_held_out_and_each_digit_and_colour_is_still_seen():
    """Held-out pairs are new combinations of things that were seen apart."""
    assert len(UNSEEN_PAIRS) == 15
    assert sorted(SEEN_PAIRS + UNSEEN_PAIRS) == list(range(NUM_PAIRS))
    colours, digits = zip(*(pair_words(pair) for pair in SEEN_PAIRS), strict=True)
    assert (len(set(colours)), len(set(digits))) == (6, 10)


def test_test_images_are_not_among_the_training_images():
    """Fifty digits of each kind are held out, the same ones for a seed, and the rest is trained on."""
    training, test = load_digits_images(seed=1)
    again, _ = load_digits_images(seed=1)
    other, _ = load_digits_images(seed=2)
    assert test.labels.bincount().tolist() == [50] * 10
    assert len(training.labels) + len(test.labels) == 1797
    assert torch.equal(training.images, again.images)
    assert not torch.equal(training.images, other.images)
    known = {tuple(image.flatten().tolist()) for image in training.images}
    assert not any(tuple(image.flatten().tolist()) in known for image in test.images)


def test_a_tint_keeps_the_shape_of_the_digit():
    """A white digit is the grey one in all channels; a red one is brightest in the first."""
    images = torch.rand(2, 8, 8)
    pixels = tint(images, torch.tensor([5, 0]))
    assert torch.equal(pixels[0], images[0].expand(3, 8, 8))
    assert torch.equal(pixels[1, 0], images[1])
    assert (pixels[1, 1] < pixels[1, 0]).all()


def test_augmented_images_are_alike_and_not_the_same(generator):
    """An augmented image still correlates with its own original more than with others."""
    training, _ = load_digits_images(seed=0)
    images = training.images[:40]
    moved = augment(images, generator).flatten(1)
    likeness = torch.corrcoef(torch.cat([images.flatten(1), moved]))[:40, 40:]
    assert not torch.equal(images.flatten(1), moved)
    assert likeness.diagonal().mean() > likeness.mean() + 0.2


def test_each_digit_is_shown_in_the_allowed_colours_only():
    """Tinting with some pairs gives images of these pairs alone, of all of them."""
    digits = Digits(torch.rand(20, 8, 8), torch.arange(20) % 10)
    pixels, pairs = tint_with_pairs(digits, SEEN_PAIRS)
    assert set(pairs.tolist()) == set(SEEN_PAIRS)
    assert pixels.shape == (2 * len(SEEN_PAIRS), 3, 8, 8)


@given(seed=st.integers(0, 10**6), data=st.data())
def test_draws_show_the_wanted_pairs_and_no_image_twice_in_a_row(seed, data):
    """Every place gets an image of its pair, and a row's images differ, even when it wants all of a pair."""
    counts = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    pairs = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    generator = torch.Generator().manual_seed(seed)
    shuffled = pairs[torch.randperm(len(pairs), generator=generator)]
    bank = ImageBank(features=shuffled[:, None, None].float(), pairs=shuffled)
    wanted = torch.stack([pairs, pairs.flip(0)])
    images = bank.draw(wanted, generator)
    assert torch.equal(bank.features[images][..., 0, 0].long(), wanted)
    assert all(len(set(row)) == len(row) for row in images.tolist())


def test_more_images_than_there_are_is_an_error(generator):
    """The error says how many are wanted of which pair, and how many there are."""
    bank = ImageBank(features=torch.zeros(3, 1, 1), pairs=torch.tensor([4, 4, 7]))
    with pytest.raises(ValueError, match="asks for 2 images of pair 7 in one row, but the bank has 1"):
        bank.draw(torch.tensor([[4, 7], [7, 7]]), generator)
