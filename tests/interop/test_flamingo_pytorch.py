"""flamingo-pytorch's whole `FlamingoPaLM`, run from its package, and ours after conversion."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import export_foreign, load_foreign
from tests.language_models import draw_weights

pytestmark = pytest.mark.peers
DIM, VOCAB, TAG = 32, 40, 3


class PlainPalm(nn.Module):
    """The peer's own language model without anything of Flamingo, of its own modules."""

    def __init__(self, peer: nn.Module, *, ending: bool = False) -> None:
        super().__init__()
        self.token_emb = peer.token_emb
        self.layers = nn.ModuleList([pair[0] for pair in peer.layers] + [nn.Identity()] * ending)
        self.to_logits = peer.to_logits

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.token_emb(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.to_logits(x)


def build(depth: int, every: int, *, positions: bool = False, **options: int) -> nn.Module:
    pytest.importorskip("einops_exts", reason="peers are installed by `nox -s tests`")
    palm = pytest.importorskip("flamingo_pytorch").FlamingoPaLM
    with torch.random.fork_rng(devices=[]):
        peer = palm(dim=DIM, num_tokens=VOCAB, depth=depth, cross_attn_every=every, perceiver_num_latents=3,
                    media_token_id=TAG, img_encoder=nn.Identity(), **options)  # fmt: skip
    draw_weights(peer)
    with torch.no_grad():
        if not positions:
            peer.perceiver_resampler.media_pos_emb.zero_()
        for _, block in peer.layers:
            if block is not None:
                block.attn_gate.fill_(0.7)
                block.ff_gate.fill_(-0.4)
    return peer.eval()


def plain(depth: int, every: int, *, ending: bool = False) -> PlainPalm:
    return PlainPalm(draw_weights(build(depth, every), 9), ending=ending)


def compare(peer: nn.Module, flamingo: nn.Module, rows: list[list[int]]) -> None:
    ids = torch.tensor(rows)
    tags = ids == TAG
    count = int(tags[0].sum())
    features = torch.randn(len(rows), count, 5, DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(ids, images=features)
        found = flamingo(ids, features=features.flatten(0, 1)[:, None]).logits
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("depth", "every", "ending"), [(3, 3, False), (2, 1, True), (4, 3, True)])
def test_logits_of_the_whole_model(depth, every, ending):
    """Blocks behind layers, the last of them too, consecutive images, text before the first: the same logits."""
    peer = build(depth, every)
    flamingo = load_foreign(peer.state_dict(), lm=plain(depth, every, ending=ending))
    assert [int(layer) for layer in flamingo.blocks] == [layer + 1 for layer in range(0, depth, every)]
    compare(peer, flamingo, [[4, 5, TAG, 6, TAG, TAG, 7], [TAG, 5, TAG, 6, 8, 7, TAG]])


def test_logits_of_a_model_that_attends_to_all_images():
    """Loaded with scope "all" it gives the same logits where rows begin with an image; with the other it does not."""
    peer = build(3, 1, only_attend_immediate_media=False)
    rows = [[TAG, 5, 6, TAG, TAG, 7], [TAG, 5, TAG, 6, 8, TAG]]
    flamingo = load_foreign(peer.state_dict(), lm=plain(3, 1, ending=True), scope="all")
    compare(peer, flamingo, rows)
    with pytest.raises(AssertionError, match="not close"):
        compare(peer, load_foreign(peer.state_dict(), lm=plain(3, 1, ending=True)), rows)


def test_there_and_back():
    """The state dict comes back, and the peer takes it."""
    peer = build(3, 3)
    checkpoint = peer.state_dict()
    flamingo = load_foreign(checkpoint, lm=plain(3, 3))
    back = export_foreign(flamingo, family="flamingo_pytorch", like=checkpoint)
    assert list(back) == list(checkpoint)
    assert all(torch.equal(back[name], tensor) for name, tensor in checkpoint.items())
    other = draw_weights(build(3, 3), 5)
    other.load_state_dict(export_foreign(flamingo, family="flamingo_pytorch"), strict=True)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in checkpoint.items())


def test_the_code_of_the_page_converts_a_palm():
    """The block of "Convert checkpoints" loads a `FlamingoPaLM` that computes the same, and gives its tensors back."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "convert-checkpoints.md").read_text()
    (code,) = re.findall(r"^```{\.python \.peers}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    peer = build(4, 3)
    found = {"nn": nn, "peer": peer, "load_foreign": load_foreign, "export_foreign": export_foreign}
    before = copy.deepcopy(peer)  # whose layers take no blocks of ours
    exec(code, found)
    compare(before, found["flamingo"], [[4, 5, TAG, 6, TAG, TAG, 7]])
    assert all(torch.equal(found["back"][name], tensor) for name, tensor in peer.state_dict().items())


def test_positions_of_media_are_added_to_the_features_by_the_caller():
    """A position for each medium of a row is not in the paper: added to the features, it gives the same logits."""
    peer = build(3, 3, positions=True)
    name = "perceiver_resampler.media_pos_emb"
    with pytest.raises(CheckpointError, match=f"{name} is added to what our blocks have no place for"):
        load_foreign(peer.state_dict(), lm=plain(3, 3))
    flamingo = load_foreign(peer.state_dict(), lm=plain(3, 3), leave_out=(name,))
    ids = torch.tensor([[4, TAG, 5, TAG, 7]])
    features = torch.randn(1, 2, 5, DIM, generator=torch.Generator().manual_seed(1))
    placed = features + peer.perceiver_resampler.media_pos_emb[:2]
    with torch.no_grad():
        expected = peer(ids, images=features)
        found = flamingo(ids, features=placed.flatten(0, 1)[:, None]).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_frame_embeddings_are_for_clips():
    """Its frame embeddings are added to clips and not to images: said, and for clips the logits are equal."""
    peer = build(3, 3, max_video_frames=3)
    with pytest.raises(CheckpointError, match=r"pass clips=True.*or leave_out=\('video_frame_pos_emb',\)"):
        load_foreign(peer.state_dict(), lm=plain(3, 3))
    flamingo = load_foreign(peer.state_dict(), lm=plain(3, 3), clips=True)
    ids = torch.tensor([[4, TAG, 5, TAG, 7]])
    clips = torch.randn(1, 2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    tower = nn.Sequential(nn.Conv2d(3, DIM, 2, 2), nn.Flatten(2))
    with torch.no_grad():
        peer.img_encoder = _Tokens(tower)
        expected = peer(ids, videos=clips)
        features = peer.img_encoder(clips.flatten(0, 2)).unflatten(0, (2, 3))
        found = flamingo(ids, features=features).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


class _Tokens(nn.Module):
    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower(pixels).transpose(1, 2)


def test_a_block_behind_the_last_layer_wants_a_place():
    """Where the last layer has a block, the language model ends with a module that the block can stand before."""
    peer = build(4, 3)
    with pytest.raises(CheckpointError, match=r"block behind layer 3 stands before layer 4.*nn\.Identity"):
        load_foreign(peer.state_dict(), lm=plain(4, 3))
