"""Ids and rows of new tokens that a config is not told."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from flamingo_blocks.hf import FlamingoConfig, FlamingoForConditionalGeneration

VOCAB = 32
TEXT = LlamaConfig(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
)  # fmt: skip
IDS = st.sampled_from([None, 5, VOCAB, VOCAB + 1, VOCAB + 3])


@given(IDS, IDS.filter(lambda token: token != 5) | st.just(6), st.sampled_from([None, 1, 2, 4]))
def test_each_is_filled_in_by_itself(media, end, rows):
    """What is said stays; what is not is an id behind the table that nothing else has, and rows enough for both."""
    config = FlamingoConfig(text_config=TEXT, media_token_id=media, end_token_id=end, num_new_tokens=rows)
    found = {"media": config.media_token_id, "end": config.end_token_id, "rows": config.num_new_tokens}
    said = {"media": media, "end": end, "rows": rows}
    assert {name: found[name] for name, value in said.items() if value is not None} == {
        name: value for name, value in said.items() if value is not None
    }
    new = range(VOCAB, VOCAB + config.num_new_tokens)
    if media is None:
        assert found["media"] == (VOCAB + 1 if end == VOCAB else VOCAB)
    if end is None:
        assert found["end"] == next((token for token in new if token != found["media"]), None)
    if rows is None:
        assert all(token < VOCAB + found["rows"] for token in (found["media"], found["end"]) if token is not None)
        assert found["rows"] == 0 or VOCAB + found["rows"] - 1 in (found["media"], found["end"])
    again = FlamingoConfig.from_dict(config.to_dict())
    assert (again.media_token_id, again.end_token_id, again.num_new_tokens) == tuple(found.values())


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, (VOCAB, VOCAB + 1, 2)),
        ({"num_new_tokens": 2}, (VOCAB, VOCAB + 1, 2)),
        ({"num_new_tokens": 1}, (VOCAB, None, 1)),
        ({"media_token_id": VOCAB}, (VOCAB, VOCAB + 1, 2)),
        ({"media_token_id": VOCAB + 1}, (VOCAB + 1, VOCAB, 2)),
        ({"media_token_id": 5}, (5, None, 0)),
        ({"end_token_id": 2}, (VOCAB, 2, 1)),
        ({"end_token_id": VOCAB}, (VOCAB + 1, VOCAB, 2)),
    ],
    ids=str,
)
def test_a_model_stands_on_what_is_filled_in(said, wanted):
    """Whichever of the three is said, the model has the others, and reads its media tag."""
    config = FlamingoConfig(text_config=TEXT, **said)
    assert (config.media_token_id, config.end_token_id, config.num_new_tokens) == wanted
    model = FlamingoForConditionalGeneration(config).eval()
    features = torch.zeros(1, 1, 4, 16)
    logits = model(torch.tensor([[1, config.media_token_id, 3]]), features=features).logits
    assert logits.shape == (1, 3, config.vocab_size)


@pytest.mark.parametrize("name", ["text_config", "media_token_id", "blocks"])
def test_the_one_that_is_missing_is_named(name):
    """A config that is not whole names what it lacks."""
    config = FlamingoConfig(text_config=TEXT)
    setattr(config, name, None)
    with pytest.raises(ValueError, match=f"^{name} of the config is None; give text_config that of a causal"):
        FlamingoForConditionalGeneration(config)
