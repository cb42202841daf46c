"""Shots keep their texts and lose their images."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks import MediaLayout
from flamingo_blocks.evaluation import shuffle_support


@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_each_row_keeps_its_images_and_its_last_one_in_place(seed, counts):
    """Rows of any number of images, none included: the same images, the last of them where it was, pads behind."""
    is_media = torch.tensor([[place < count for place in range(6)] for count in counts])
    layout = MediaLayout.from_tokens(is_media)
    shuffled = shuffle_support(layout, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(shuffled.first, layout.first)
    assert torch.equal(shuffled.last, layout.last)
    for before, after, count in zip(layout.item_ids.tolist(), shuffled.item_ids.tolist(), counts, strict=True):
        assert sorted(after[:count]) == before[:count]
        assert after[count:] == before[count:]
        assert after[max(count - 1, 0) : count] == before[max(count - 1, 0) : count]


def test_each_row_has_an_order_of_its_own():
    """Of many rows with the same images, some keep their order by chance and most do not."""
    layout = MediaLayout.from_tokens(torch.ones(200, 3, dtype=torch.bool))
    shuffled = shuffle_support(layout, generator=torch.Generator().manual_seed(0))
    kept = (shuffled.item_ids == layout.item_ids).all(dim=1).float().mean()
    assert 0.35 < kept < 0.65
