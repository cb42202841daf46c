"""Our resampler computes what the peers' do with the same weights, and goes on where they stop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.peers import DIM, LATENTS, our_resampler, peer_resampler
from tests.strategies import heavy, seeds, tensor

pytestmark = pytest.mark.peers


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@heavy()
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.booleans(), seeds)
def test_open_flamingo(batch, media, frames, patches, embeds_frames, seed):
    """Clips of frames, with and without learned frame embeddings: the same tokens and the same gradients."""
    frame_table = 3 if embeds_frames else None
    peer = peer_resampler("open_flamingo", max_num_frames=frame_table)
    ours = our_resampler(peer, max_frames=frame_table or 0)
    noise = torch.Generator().manual_seed(seed)
    vision = tensor(noise, batch, media, frames, patches, DIM, dtype=torch.float32).requires_grad_()
    out, expected = ours(vision), peer(vision)
    close(out, expected)
    cotangent = tensor(noise, *out.shape, dtype=torch.float32)
    (our_grad,), (peer_grad,) = (torch.autograd.grad(x, vision, cotangent) for x in (out, expected))
    torch.testing.assert_close(our_grad, peer_grad, atol=2e-5, rtol=1e-4)


@heavy()
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), seeds)
def test_flamingo_pytorch(batch, media, patches, seed):
    """Its resampler adds a position to each medium, which is not in the paper; beyond that the tokens are ours."""
    peer = peer_resampler("flamingo_pytorch", num_media_embeds=4)
    vision = tensor(torch.Generator().manual_seed(seed), batch, media, patches, DIM, dtype=torch.float32)
    placed = vision + peer.media_pos_emb[:media]
    close(our_resampler(peer)(placed[:, :, None]), peer(vision))


def test_peers_stop_at_their_tables():
    """One medium or one frame more than a table holds is an error in the peers; ours counts no media and stretches."""
    noise = torch.Generator().manual_seed(0)
    peer = peer_resampler("flamingo_pytorch", num_media_embeds=2)
    vision = tensor(noise, 1, 3, 4, DIM, dtype=torch.float32)
    with pytest.raises(RuntimeError):
        peer(vision)
    assert our_resampler(peer)(vision[:, :, None]).shape == (1, 3, LATENTS, DIM)

    peer = peer_resampler("open_flamingo", max_num_frames=2)
    clip = tensor(noise, 1, 1, 3, 4, DIM, dtype=torch.float32)
    with pytest.raises(RuntimeError):
        peer(clip)
    assert our_resampler(peer, max_frames=2)(clip).shape == (1, 1, LATENTS, DIM)
