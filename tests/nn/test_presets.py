"""The options of each member of the family, by name."""

from typing import get_args

import pytest
import torch

from flamingo_blocks.nn import (
    GatedCrossAttentionBlock,
    PerceiverResampler,
    block_preset,
    preset_layers,
    resampler_preset,
)  # fmt: skip
from flamingo_blocks.types import PresetName

FAMILIES = get_args(PresetName)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_preset_is_a_set_of_arguments(name):
    """A block is built from a preset and its sizes alone, and a change replaces what the preset says."""
    block = GatedCrossAttentionBlock(16, vision_dim=8, **block_preset(name, num_heads=2, head_dim=4, gate="channel"))
    assert block.attention.q_proj.out_features == 8
    assert block.attention_gate.gate.shape == (16,)


@pytest.mark.parametrize("name", sorted({*FAMILIES} - {"mllama"}))
def test_every_preset_of_a_resampler_is_a_set_of_arguments(name):
    """A resampler is built from a preset and its sizes alone."""
    options = resampler_preset(name, depth=1, num_heads=2, head_dim=4, num_latents=3)
    assert PerceiverResampler(vision_dim=8, dim=8, **options)(torch.zeros(1, 1, 5, 8)).shape == (1, 3, 8)


def test_a_preset_is_a_copy():
    """Changing what was given changes no later call."""
    block_preset("idefics")["norm"] = "layer_norm"
    assert block_preset("idefics")["norm"] == "rms_norm"


def test_where_blocks_stand():
    """From the first layer on, or from the last of each group on; Mllama's default list is every fourth."""
    assert preset_layers("paper", num_layers=5, every=2) == [0, 2, 4]
    assert preset_layers("open_flamingo", num_layers=5, every=2) == [1, 3]
    own_indices = [3, 8, 13, 18, 23, 28, 33, 38]
    assert preset_layers("mllama", num_layers=32, every=4) == [own - place for place, own in enumerate(own_indices)]


def test_refusals(without_shape_checks):
    """Unknown names, a family without a resampler, and no layer at all are told."""
    with pytest.raises(ValueError, match="name is 'flamingo2', wanted one of 'paper', 'open_flamingo'"):
        block_preset("flamingo2")
    with pytest.raises(ValueError, match="name is 'mllama', a family without resampler"):
        resampler_preset("mllama")
    with pytest.raises(ValueError, match="every is 0, wanted 1 or more"):
        preset_layers("idefics", num_layers=4, every=0)
    with pytest.raises(ValueError, match="name is 'blip'"):
        preset_layers("blip", num_layers=4, every=1)
