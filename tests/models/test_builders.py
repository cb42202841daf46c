"""Builders: the paper's sizes without their memory, and a tiny model to try things on."""

import pytest
import torch
from torch import nn

from flamingo_blocks import GatedCrossAttentionBlock
from flamingo_blocks.errors import LayersNotFoundError
from flamingo_blocks.models import (
    PAPER_SIZES,
    PaperLanguageModel,
    build_paper_flamingo,
    build_tiny_flamingo,
    every_layer,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Billions of parameters: gated blocks as published, and how many blocks there are.
PUBLISHED = {"3b": (1.21, 24), "9b": (1.61, 8), "80b": (9.66, 12)}


@pytest.mark.parametrize("size", PAPER_SIZES)
def test_the_papers_parts_have_the_published_sizes(size):
    """Resampler, gated blocks and language model are each within one percent, and nothing is allocated."""
    flamingo = build_paper_flamingo(size)
    sizes, (billions, blocks) = PAPER_SIZES[size], PUBLISHED[size]
    assert count(flamingo.resampler) == pytest.approx(193.6e6, rel=0.01)
    assert count(flamingo.blocks) == pytest.approx(billions * 1e9, rel=0.01)
    assert count(flamingo.lm) == pytest.approx(13 * sizes.depth * sizes.dim**2 + 32000 * sizes.dim, rel=0.01)
    assert count(flamingo.projection) == 1536 * sizes.dim
    assert [int(index) for index in flamingo.blocks] == list(range(0, sizes.depth, sizes.every))
    assert len(flamingo.blocks) == blocks
    assert {parameter.device.type for parameter in flamingo.parameters()} == {"meta"}
    assert flamingo.token_rows.token_ids == [32000] and flamingo.end_token_id == 32000


def test_a_paper_model_runs_on_the_meta_device():
    """Shapes of a whole pass are known without a byte of it."""
    flamingo = build_paper_flamingo("3b")
    features = torch.zeros(5, 1, 256, 3072, device="meta")
    assert flamingo.encode_media(features=features).media.shape == (5, 64, 2048)
    ids = torch.tensor([[31999, 3, 31999, 4, 31999, 31999, 31999, 5]])
    layout = flamingo.make_layout(ids)  # on the CPU, where its numbers can be read
    assert flamingo(ids.to("meta"), features=features, layout=layout).logits.shape == (1, 8, 32001)


def test_an_unknown_size_is_told():
    """With the sizes there are."""
    with pytest.raises(ValueError, match="size is '7b', wanted one of '3b', '9b', '80b'"):
        build_paper_flamingo("7b")


def test_the_tiny_model_is_its_seed():
    """The same seed gives the same weights, another gives others, and the global generator stays where it was."""
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, two, other = build_tiny_flamingo(), build_tiny_flamingo(), build_tiny_flamingo(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one.state_dict()[key], value) for key, value in two.state_dict().items())
    assert not torch.equal(one.state_dict()["resampler.latents"], other.state_dict()["resampler.latents"])
    ids = torch.tensor([[1, one.media_token_id, 5, one.end_token_id]])
    assert one(ids, pixels=torch.zeros(1, 1, 3, 8, 8)).logits.shape == (1, 4, 34)


@pytest.mark.parametrize(("depth", "every", "layers"), [(5, 1, [0, 1, 2, 3, 4]), (5, 2, [0, 2, 4]), (4, 7, [0])])
def test_a_block_stands_before_each_so_manyth_layer(depth, every, layers):
    """Starting with the first; each block is its own."""
    lm = PaperLanguageModel(vocab_size=10, dim=8, depth=depth, num_heads=2)
    blocks = every_layer(lm, lambda: GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2), every=every)
    assert list(blocks) == layers and len(set(map(id, blocks.values()))) == len(layers)
    assert list(every_layer(lm, nn.Identity, every=every, layers="layers")) == layers


def test_every_is_checked():
    """0 would be no layer at all; layers that cannot be found are told as by `attach`."""
    lm = PaperLanguageModel(vocab_size=10, dim=8, depth=2, num_heads=2)
    with pytest.raises(ValueError, match="every is 0, wanted 1 or more"):
        every_layer(lm, nn.Identity, every=0)
    with pytest.raises(LayersNotFoundError, match="'layers' \\(2 layers\\)"):
        every_layer(lm, nn.Identity, layers="model.layers")


def test_heads_must_divide_the_width():
    """The error has both numbers."""
    with pytest.raises(ValueError, match="dim is 8, not a multiple of num_heads 3"):
        PaperLanguageModel(vocab_size=10, dim=8, depth=1, num_heads=3)
