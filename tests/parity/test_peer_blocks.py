"""Our gated block computes what the peers' do with the same weights where they are right, and not where they leak."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks.ops import MediaLayout
from tests.parity.peers import DIM, LATENTS, PEERS, our_block, peer_block
from tests.strategies import heavy, seeds, tensor

pytestmark = pytest.mark.peers
both_peers = pytest.mark.parametrize("name", PEERS)


@st.composite
def tagged_text(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Where the tags are in a batch, and how many media the padded tensor of the peers holds a row."""
    width = draw(st.integers(1, 8))
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    tags = torch.tensor(draw(st.lists(row, min_size=1, max_size=3)))
    return tags, max(1, int(tags.sum(1).max())) + draw(st.integers(0, 1))


def draw_inputs(tags: Tensor, num_media: int, vision_dim: int, seed: int) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    text = tensor(noise, *tags.shape, DIM, dtype=torch.float32)
    return text, tensor(noise, len(tags), num_media, LATENTS, vision_dim, dtype=torch.float32)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@both_peers
@heavy()
@given(tagged_text(), seeds)
def test_immediate_media_are_scope_last(name, layout, seed):
    """With `only_attend_immediate_media=True` the peers are right: outputs and gradients of text and media are ours."""
    tags, num_media = layout
    peer, vision_dim = peer_block(name)
    ours = our_block(peer, vision_dim)
    text, media = draw_inputs(tags, num_media, vision_dim, seed)
    results = []
    for run in (
        lambda text, media: peer(text, media, media_locations=tags),
        lambda text, media: ours(text, media, MediaLayout.from_grid(tags, num_media=num_media)),
    ):
        leaves = [text.clone().requires_grad_(), media.clone().requires_grad_()]
        out = run(*leaves)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)
    close(results[1][0], results[0][0])


@both_peers
@heavy()
@given(tagged_text(), seeds)
def test_all_previous_media_are_scope_all_behind_the_first_tag(name, layout, seed):
    """Attending to all previous media the peers are right from a row's first tag on, and there they are ours."""
    tags, num_media = layout
    peer, vision_dim = peer_block(name, only_attend_immediate_media=False)
    text, media = draw_inputs(tags, num_media, vision_dim, seed)
    ours = our_block(peer, vision_dim)(text, media, MediaLayout.from_grid(tags, num_media=num_media, scope="all"))
    behind = tags.cumsum(1) > 0
    close(ours[behind], peer(text, media, media_locations=tags)[behind])


def moved_by_media(block, text: Tensor, media: Tensor) -> Tensor:
    """Bool [batch text]: the tokens whose output moves when all media are swapped for others."""
    with torch.no_grad():
        return (block(text, media) - block(text, media.flip(1) + 1)).abs().amax(-1) > 1e-6


@both_peers
def test_peers_leak_future_media_into_the_text_before(name):
    """The leak: attending to all previous media, the peers let text before the first image feel images after it."""
    tags = torch.tensor([[False, False, True, False, True, False]])
    peer, vision_dim = peer_block(name, only_attend_immediate_media=False)
    ours = our_block(peer, vision_dim)
    layout = MediaLayout.from_grid(tags, num_media=2, scope="all")
    text, media = draw_inputs(tags, 2, vision_dim, 0)
    theirs = moved_by_media(lambda text, media: peer(text, media, media_locations=tags), text, media)
    assert theirs.tolist() == [[True] * 6]
    assert moved_by_media(lambda text, media: ours(text, media, layout), text, media).tolist() == [
        [False, False, True, True, True, True]
    ]


@both_peers
def test_peers_average_all_media_when_a_tag_has_none(name):
    """More tags than media: the peers show the last tag's text the mean of every medium; we tell row and numbers."""
    tags = torch.tensor([[True, False, True, False]])
    peer, vision_dim = peer_block(name)
    text, media = draw_inputs(tags, 1, vision_dim, 0)
    theirs = moved_by_media(lambda text, media: peer(text, media, media_locations=tags), text, media)
    assert theirs.tolist() == [[True] * 4]
    with pytest.raises(ValueError, match="num_media is 1, but row 0 has 2 items"):
        MediaLayout.from_grid(tags, num_media=1)
    with pytest.raises(ValueError, match="row 0 has 2 media tags for 2 items, but counts gives it 1 items"):
        MediaLayout.from_grid(tags, num_media=1, counts=torch.tensor([1]))


def test_cached_media_of_open_flamingo_are_extend():
    """Its decoding step (`use_cached_media=True`) sees the last medium of the prompt, as `extend` says."""
    tags = torch.tensor([[False, True, False, True], [True, False, False, False]])
    peer, vision_dim = peer_block("open_flamingo")
    text, media = draw_inputs(torch.zeros(2, 1), 2, vision_dim, 0)
    step = MediaLayout.from_grid(tags, num_media=2).extend(1).slice(4, 5)
    expected = peer(text, media, media_locations=tags, use_cached_media=True)
    ours = our_block(peer, vision_dim)
    close(ours(text, media, step), expected)
    close(ours(text, ours.project_media(media), step), expected)
