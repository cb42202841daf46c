"""A prompt for many queries: what is shared until it is used, and what a use copies."""

import pytest
import torch

from tests.flamingos import NEW_TAG, close, make_flamingo
from tests.language_models import OF_TRANSFORMERS

IDS = torch.tensor([[3, NEW_TAG, 4]])
PIXELS = torch.ones(1, 1, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_more_rows_cost_nothing_until_they_are_used(name):
    """Cache, media and projections of the repeated prompt are those of the one row; a fork has all rows, of its own."""
    prompt = make_flamingo(name).prefill(IDS, pixels=PIXELS)
    many = prompt.for_rows(3).repeat_rows(2)
    assert many.cache is prompt.cache
    assert many.state.media is prompt.state.media
    assert many.state.projected is prompt.state.projected
    assert (many.num_rows, many.logits.shape[0], many.state.layout.item_ids.shape[0]) == (6, 6, 6)
    fork = many.fork_cache()
    assert [layer.keys.shape[0] for layer in fork.layers] == [6] * len(fork.layers)
    assert [layer.keys.shape[0] for layer in prompt.cache.layers] == [1] * len(fork.layers)
    assert not {layer.keys.data_ptr() for layer in fork.layers} & {layer.keys.data_ptr() for layer in many.cache.layers}


@pytest.mark.parametrize("name", [*OF_TRANSFORMERS, "plain"])
def test_rows_repeated_in_turn_stand_side_by_side(name):
    """Three queries for each of two prompts: the first three belong to the first."""
    flamingo = make_flamingo(name)
    texts = torch.tensor([[3, 5, 4], [6, 7, 8]])
    many = flamingo.prefill(texts).repeat_rows(3)
    queries = torch.arange(9, 15)[:, None]
    actual = flamingo(queries, prompt=many).logits
    whole = torch.cat([texts.repeat_interleave(3, 0), queries], dim=1)
    close(actual[:, 0], flamingo(whole).logits[:, -1], name)
