"""The media state: immutable, projected once, appended to by chat turns."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

from flamingo_blocks import MediaLayout, MediaState, attach
from tests.flamingos import LATENTS, VISION_DIM, make_block
from tests.language_models import PlainDecoder


def items(number: int, seed: int = 0, *, latents: int = LATENTS, width: int = VISION_DIM) -> torch.Tensor:
    return torch.randn(number, latents, width, generator=torch.Generator().manual_seed(seed))


def layout_of(*tags: bool) -> MediaLayout:
    return MediaLayout.from_tokens(torch.tensor([tags]))


@pytest.fixture
def attachment():
    return attach(PlainDecoder(), {0: make_block(0), 1: make_block(1)})


def test_appending_projects_the_new_items_only(attachment):
    """Each block projects as many items as were appended, and the pool is as if projected at once."""
    state = attachment.project(MediaState(media=items(3), layout=layout_of(True, True, True)))
    counts = []
    for block in attachment.blocks.values():
        block.attention.k_proj.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    longer = state.append(items(2, 1), state.layout.append(torch.tensor([[True, True]])))
    assert counts == [2, 2]
    assert longer.num_items == 5 and state.num_items == 3
    whole = attachment.project(MediaState(media=torch.cat([items(3), items(2, 1)]), layout=longer.layout))
    for name in attachment.blocks:
        torch.testing.assert_close(longer.projected[name].key, whole.projected[name].key)
        torch.testing.assert_close(longer.projected[name].value, whole.projected[name].value)


def test_appending_text_alone_projects_nothing(attachment):
    """A turn without items keeps pool and projections as they are."""
    state = attachment.project(MediaState(media=items(1), layout=layout_of(True)))
    longer = state.append(items(0), state.layout.append(torch.tensor([[False]])))
    assert longer.media is state.media and longer.projected is state.projected
    assert longer.layout.num_text == 2


def test_projecting_twice_is_projecting_once(attachment):
    """A projected state is given back as it is."""
    state = attachment.project(MediaState(media=items(1), layout=layout_of(True)))
    assert attachment.project(state) is state


@pytest.mark.parametrize("valid_first", [False, True])
@pytest.mark.parametrize("valid_second", [False, True])
def test_flags_of_both_pools_are_kept(attachment, valid_first, valid_second):
    """A pool without flags counts in full beside one that has some."""
    flags = torch.tensor([[True, True, False]])
    first = MediaState(media=items(1), layout=layout_of(True), valid=flags if valid_first else None)
    second = first.append(items(1, 1), layout_of(True, True), valid=flags if valid_second else None)
    expected = [[True, True, not given] for given in (valid_first, valid_second)]
    if not valid_first and not valid_second:
        assert second.valid is None
    else:
        assert second.valid.tolist() == expected
    projected = attachment.project(first).append(items(1, 1), second.layout, valid=flags if valid_second else None)
    assert [None if kv.valid is None else kv.valid.tolist() for kv in projected.projected.values()] == [
        None if second.valid is None else expected
    ] * 2


@pytest.mark.parametrize("shape", [dict(latents=4), dict(width=8)])
def test_items_of_another_shape_are_refused(shape):
    """A pool holds items of one number of tokens and one width; the error tells both shapes."""
    state = MediaState(media=items(1), layout=layout_of(True))
    with pytest.raises(
        ValueError, match=r"media has shape \(1, .*\), the pool \(1, 3, 16\); wanted the same latents and width"
    ):
        state.append(items(1, **shape), layout_of(True, True))


@pytest.mark.parametrize("projected", [False, True])
def test_an_empty_pool_takes_the_shape_of_the_first_items(attachment, projected):
    """A conversation that began without images may not know yet how many tokens an image will have."""
    state = MediaState(media=items(0, latents=1), layout=layout_of(False))
    state = attachment.project(state) if projected else state
    longer = state.append(items(2), state.layout.append(torch.tensor([[True, True]])))
    assert longer.media.shape == (2, LATENTS, VISION_DIM)
    if projected:
        assert longer.projected["0"].key.shape[:2] == (2, LATENTS)


def test_a_state_cannot_be_changed():
    """Assigning to it is an error; a new layout makes a new state."""
    state = MediaState(media=items(1), layout=layout_of(True))
    with pytest.raises(FrozenInstanceError):
        state.media = items(2)
    other = state.with_layout(layout_of(True, False))
    assert other.media is state.media and state.layout.num_text == 1 and other.layout.num_text == 2


def test_rows_repeat_without_the_pool():
    """Beams share the very same media and projections."""
    state = MediaState(media=items(1), layout=layout_of(True, False))
    more = state.repeat_rows(3)
    assert more.media is state.media and more.layout.last.shape == (3, 2)
    assert state.repeat_rows(1) is state
    assert MediaState(media=items(1)).repeat_rows(2).layout is None


def test_a_block_without_project_media_can_still_run_but_not_be_projected():
    """Only decoding needs projected media; the error names the class."""

    class Own(nn.Module):
        def forward(self, text, media, layout, *, valid=None):
            return text + media.mean()

    attachment = attach(PlainDecoder(), {0: Own()})
    state = MediaState(media=items(1), layout=layout_of(True, False))
    with attachment.media(state):
        assert attachment.lm(torch.tensor([[3, 4]])).shape == (1, 2, 50)
    with pytest.raises(ValueError, match="Own has no project_media"):
        attachment.project(state)


def test_moving_moves_every_part(attachment):
    """Media, layout, flags and projections go to the device that is asked for."""
    state = MediaState(media=items(1), layout=layout_of(True), valid=torch.ones(1, LATENTS, dtype=torch.bool))
    moved = attachment.project(state).to("meta")
    parts = [moved.media, moved.valid, moved.layout.last, *(kv.key for kv in moved.projected.values())]
    assert {part.device.type for part in parts} == {"meta"}
    assert MediaState(media=items(1)).to("cpu").layout is None
