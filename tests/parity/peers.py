"""Other implementations' blocks, and their weights under our names.

Their packages pin a torch of 2023, so they are installed with `--no-deps` (`nox -s tests` does); without them the
parity tests are skipped. open_flamingo's file of blocks is loaded by its path, for importing the package would want
a vision library that the blocks do not need.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler, block_preset, resampler_preset

PEERS = ("open_flamingo", "flamingo_pytorch")
DIM, VISION_DIM, LATENTS = 32, 24, 3
RENAMED = (
    (r"^(layers\.\d+)\.0\.", r"\1."),
    (r"^(layers\.\d+\.)1\.|^ff\.", r"\1feed_forward."),
    (r"feed_forward\.0\.", "feed_forward.norm."),
    (r"feed_forward\.1\.", "feed_forward.up_proj."),
    (r"feed_forward\.3\.", "feed_forward.down_proj."),
    (r"^attn_gate$", "attention_gate.gate"),
    (r"^ff_gate$", "feed_forward_gate.gate"),
    (r"^attn\.", "attention."),
    (r"norm_media", "features_norm"),
    (r"norm_latents", "latents_norm"),
    (r"^norm\.", "final_norm."),
    (r"^frame_embs$", "frame_embeddings"),
    (r"to_q\.", "q_proj."),
    (r"to_out\.", "o_proj."),
)


def load_peer(name: str) -> ModuleType:
    """The module that holds a peer's blocks; the test is skipped where the peer is not installed."""
    pytest.importorskip("einops_exts", reason="peers are installed by `nox -s tests`")
    package = importlib.util.find_spec(name)
    if package is None or package.origin is None:
        pytest.skip(f"{name} is not installed; `nox -s tests` installs it")
    files = {"open_flamingo": "src/helpers.py", "flamingo_pytorch": "flamingo_pytorch.py"}
    spec = importlib.util.spec_from_file_location(f"peer_{name}", Path(package.origin).parent / files[name])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def under_our_names(peer: nn.Module) -> dict[str, Tensor]:
    """The peer's weights as our state dict: keys and values apart, the rest renamed."""
    ours: dict[str, Tensor] = {}
    for name, value in peer.state_dict().items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901 -- one rename after the other
        if "to_kv." in name:
            ours[name.replace("to_kv.", "k_proj.")], ours[name.replace("to_kv.", "v_proj.")] = value.chunk(2)
        elif name not in {"media_pos_emb", "media_time_embs"}:  # positions of media, which the paper does not have
            ours[name] = value
    return ours


def peer_block(name: str, **options: bool) -> tuple[nn.Module, int]:
    """A peer's block with its gates opened, and the width of the media it takes."""
    sizes = {"dim": DIM} if name == "flamingo_pytorch" else {"dim": DIM, "dim_visual": VISION_DIM}
    peer = load_peer(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = peer.GatedCrossAttentionBlock(**sizes, **options)
    block.attn_gate.data.fill_(0.7)
    block.ff_gate.data.fill_(-0.4)
    return block, sizes.get("dim_visual", DIM)


def peer_resampler(name: str, **options: int | None) -> nn.Module:
    """A peer's resampler of two layers."""
    peer = load_peer(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return peer.PerceiverResampler(dim=DIM, depth=2, num_latents=LATENTS, **options)


def our_block(peer: nn.Module, vision_dim: int) -> GatedCrossAttentionBlock:
    """Our block with the peer's weights."""
    block = GatedCrossAttentionBlock(DIM, vision_dim=vision_dim, **block_preset("open_flamingo"))
    block.load_state_dict(under_our_names(peer), strict=True)
    return block


def our_resampler(peer: nn.Module, *, max_frames: int = 0) -> PerceiverResampler:
    """Our resampler with the peer's weights."""
    options = resampler_preset("open_flamingo", num_latents=LATENTS, depth=2, max_frames=max_frames)
    resampler = PerceiverResampler(vision_dim=DIM, dim=DIM, **options)
    resampler.load_state_dict(under_our_names(peer), strict=True)
    return resampler
