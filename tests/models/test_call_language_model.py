"""Calling any decoder: it gets what its `forward` takes, and what it returns is read."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flamingo_blocks.models.call_language_model import accepts, caches, call_language_model
from tests.language_models import NAMES, VOCAB, PlainDecoder, make_language_model

IDS = torch.tensor([[3, 4, 5]])


class Recorder(nn.Module):
    """Remembers its call and gives no more than asked."""

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        self.call = dict(attention_mask=attention_mask, position_ids=position_ids)
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, VOCAB))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_model_takes_is_read_off_its_signature(name):
    """Transformers' models take a cache and a mask, a plain decoder takes neither."""
    lm = make_language_model(name)
    assert accepts(lm, "attention_mask") == caches(lm) == (name != "plain")
    out = call_language_model(lm, IDS, use_cache=True, logits_to_keep=1)
    assert out.logits.shape == (1, 1, VOCAB)
    assert (out.cache is None) == (name == "plain")
    assert call_language_model(lm, IDS).cache is None


def test_an_adapter_around_the_model_is_looked_through():
    """PEFT's wrapper takes anything; the model inside tells."""

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = PlainDecoder()

        def get_base_model(self) -> nn.Module:
            return self.inner

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    assert not accepts(Wrapper(), "attention_mask")
    assert call_language_model(Wrapper(), IDS, attention_mask=torch.ones(1, 3)).logits.shape == (1, 3, VOCAB)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_positions_are_derived_from_the_mask(dtype):
    """They count real tokens, so that left pads and pads between turns take none; the cached part is cut off."""
    lm = Recorder()
    mask = torch.tensor([[0, 1, 1, 0, 1]]).to(dtype)
    call_language_model(lm, IDS, attention_mask=mask)
    assert lm.call["position_ids"].tolist() == [[1, 1, 2]]
    assert lm.call["attention_mask"].tolist() == [[0, 1, 1, 0, 1]]
    given = torch.tensor([[7, 8, 9]])
    call_language_model(lm, IDS, attention_mask=mask, position_ids=given)
    assert lm.call["position_ids"] is given
    call_language_model(lm, IDS)
    assert lm.call == dict(attention_mask=None, position_ids=None)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long])
def test_left_pads_without_a_mask_are_refused_and_right_pads_are_not(dtype):
    """Causality keeps right pads harmless; the error names the model."""
    lm = PlainDecoder()
    call_language_model(lm, IDS, attention_mask=torch.tensor([[1, 1, 0]]).to(dtype))
    for mask in ([[0, 1, 1]], [[1, 0, 1]]):
        with pytest.raises(
            ValueError, match="pads before real tokens, but PlainDecoder.forward takes no attention_mask"
        ):
            call_language_model(lm, IDS, attention_mask=torch.tensor(mask).to(dtype))
