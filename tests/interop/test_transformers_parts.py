"""The plain parts inside models of transformers, built from their configs."""

import pytest
import torch

from flamingo_blocks.errors import CheckpointError
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


@pytest.mark.parametrize(("parts", "config"), [(idefics_parts, mllama_config), (mllama_parts, idefics_config)])
@pytest.mark.parametrize("form", ["config", "values", "folder"])
def test_the_config_of_another_model_builds_nothing(parts, config, form, tmp_path):
    """Its sizes would be ignored, and a model of the default size, billions of weights, be built."""
    given = config()
    if form == "folder":
        given.save_pretrained(tmp_path)
    given = {"config": given, "values": given.to_dict(), "folder": tmp_path}[form]
    with pytest.raises(CheckpointError, match=r"is of model_type '(idefics|mllama)', wanted '.*idefics_parts is"):
        parts(given)


def test_the_values_of_a_text_config_are_read_as_such(tmp_path):
    """Whether they come as a config, as values or from a folder."""
    config = mllama_config().get_text_config()
    config.save_pretrained(tmp_path)
    for given in (config, config.to_dict(), tmp_path, str(tmp_path)):
        built = mllama_parts(given)
        assert built["vision"] is None and built["lm"].config.hidden_size == config.hidden_size
