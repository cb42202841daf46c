"""The plain parts inside models of transformers, built from their configs."""

import pytest
import torch

from flamingo_blocks.interop import idefics_parts, mllama_parts
from tests.interop.transformers_peers import idefics_config, mllama_config


@pytest.mark.parametrize(("parts", "config"), [(idefics_parts, idefics_config), (mllama_parts, mllama_config)])
def test_rotary_frequencies_stay_in_float32(parts, config):
    """In bfloat16 the weights are, and not the rotary frequencies, as when transformers itself loads in bfloat16."""
    built = parts(config(), dtype=torch.bfloat16)
    assert {weight.dtype for weight in built["lm"].parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in built["vision"].parameters()} == {torch.bfloat16}
    exact = parts(config())["lm"].model.rotary_emb.inv_freq
    assert torch.equal(built["lm"].model.rotary_emb.inv_freq, exact)
    assert {weight.dtype for weight in parts(config())["lm"].parameters()} == {torch.float32}
