"""A prompt for many queries: what is shared until it is used, and what a use copies."""

import copy

import pytest
import torch

from flamingo_blocks.models import prompt_cache
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


@pytest.mark.parametrize("rows", [1, 2])
def test_a_fork_is_written_to_in_place_and_gives_what_concatenation_gives(rows):
    """Tokens behind a forked cache go into memory that is there; keys and values are those of a copy that grows."""
    prompt = make_flamingo("llama").prefill(IDS.repeat(rows, 1), media=torch.ones(rows, 4, 16, dtype=torch.float64))
    fork, grown = prompt.repeat_rows(2).fork_cache(room=2), copy.deepcopy(prompt.cache)
    grown.batch_repeat_interleave(2)
    places = [layer.keys.data_ptr() for layer in fork.layers]
    noise = torch.Generator().manual_seed(0)
    for _ in range(3):
        for index, layer in enumerate(grown.layers):
            rows_, heads, _, head_dim = layer.keys.shape
            new = torch.randn(2, rows_, heads, 1, head_dim, generator=noise, dtype=layer.keys.dtype)
            for ours, theirs in zip(fork.update(*new, index), grown.update(*new, index), strict=True):
                assert torch.equal(ours, theirs)
    assert [layer.keys.data_ptr() for layer in fork.layers] == places
    assert prompt.cache.get_seq_length() == 3


@pytest.mark.parametrize("order", [[1, 1, 0, 3, 5, 3], [2, 0, 1, 5, 4, 3], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])
def test_beams_that_change_places_leave_the_prompt_where_it_is(order):
    """Rows of one text have its prompt alike, so that only what is behind it moves; rows of several move whole. What
    comes out is what an ordinary cache gives, also after a step back into the prompt, and nobody else sees it.
    """
    prompt = make_flamingo("llama").prefill(IDS.repeat(2, 1), media=torch.ones(2, 4, 16, dtype=torch.float64))
    fork, grown = prompt.repeat_rows(3).fork_cache(room=4), copy.deepcopy(prompt.cache)
    grown.batch_repeat_interleave(3)
    noise, places = torch.Generator().manual_seed(0), [layer.keys.data_ptr() for layer in fork.layers]

    def step():
        for index, layer in enumerate(grown.layers):
            rows, heads, _, head_dim = layer.keys.shape
            new = torch.randn(2, rows, heads, 1, head_dim, generator=noise, dtype=layer.keys.dtype)
            for ours, theirs in zip(fork.update(*new, index), grown.update(*new, index), strict=True):
                assert torch.equal(ours, theirs)

    within = all(row // 3 == place // 3 for place, row in enumerate(order))
    with torch.no_grad():
        for crop in (None, None, -3, None):
            step()
            if crop is not None:
                fork.crop(crop), grown.crop(crop)
                step()
            lent = prompt_cache.borrow(fork)
            before = [layer.keys.clone() for layer in fork.layers]
            lent.reorder_cache(torch.tensor(order))
            assert all(torch.equal(layer.keys, kept) for layer, kept in zip(fork.layers, before, strict=True))
            fork.reorder_cache(torch.tensor(order)), grown.reorder_cache(torch.tensor(order))
            for ours, theirs in zip(fork.layers, grown.layers, strict=True):
                assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)
        assert ([layer.keys.data_ptr() for layer in fork.layers] == places) == within
    assert prompt.cache.get_seq_length() == 3


def test_a_fork_grows_beyond_its_room_and_bears_cropping_reordering_and_gradients():
    """More tokens than there was room for, a rollback, rows in another order, tokens with a gradient: all as before."""
    prompt = make_flamingo("llama").prefill(IDS, pixels=PIXELS).repeat_rows(2)
    fork, grown = prompt.fork_cache(), copy.deepcopy(prompt.cache)
    grown.batch_repeat_interleave(2)
    noise = torch.Generator().manual_seed(0)
    shape = grown.layers[0].keys.shape

    def add(tokens, *, grad=False):
        new = torch.randn(2, *shape[:2], tokens, shape[3], generator=noise, dtype=torch.float64, requires_grad=grad)
        for ours, theirs in zip(fork.update(*new, 0), grown.update(*new, 0), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.requires_grad == grad

    add(40)
    for cache in (fork, grown):
        cache.crop(-3)
    add(1)
    kept = copy.deepcopy(fork)
    for cache in (fork, grown):
        cache.reorder_cache(torch.tensor([1, 0]))
    add(1)
    add(1, grad=True)
    assert kept.get_seq_length(0) == 3 + 40 - 3 + 1
    assert torch.equal(kept.layers[0].keys, fork.layers[0].keys[[1, 0], :, : kept.get_seq_length(0)])


def prompt_in_float32(rows):
    """A prompt whose cache is in float32."""
    prompt = make_flamingo("llama").prefill(IDS.repeat(rows, 1), media=torch.ones(rows, 4, 16, dtype=torch.float64))
    for layer in prompt.cache.layers:
        layer.keys, layer.values = layer.keys.float(), layer.values.float()
    return prompt


@pytest.mark.parametrize("mishap", ["reordered", "selected", "made in inference mode", "of another dtype", "gradients"])
def test_a_fork_that_had_to_copy_everything_once_writes_in_place_again(mishap, generator):
    """Whatever came between, later tokens go into memory that is there, and are those that concatenation gives."""
    with torch.inference_mode(mishap == "made in inference mode"):
        prompt = prompt_in_float32(rows=2)
        fork = prompt.fork_cache()
    grown = copy.deepcopy(prompt.cache)
    for cache in (fork, grown):
        if mishap == "reordered":
            cache.reorder_cache(torch.tensor([1, 0]))
        elif mishap == "selected":
            cache.batch_select_indices(torch.tensor([1]))
    places = []
    rows, heads, _, head_dim = grown.layers[0].keys.shape
    dtype = torch.float64 if mishap == "of another dtype" else torch.float32
    for step in range(4):
        new = torch.randn(2, rows, heads, 1, head_dim, generator=generator, dtype=dtype)
        with torch.set_grad_enabled(mishap == "gradients" and step == 0):
            new.requires_grad_(mishap == "gradients")
            for ours, theirs in zip(fork.update(*new, 0), grown.update(*new, 0), strict=True):
                assert torch.equal(ours, theirs)
                assert (ours.dtype, ours.requires_grad) == (theirs.dtype, theirs.requires_grad)
        places.append(fork.layers[0].keys.data_ptr())
    assert len(set(places[1:])) == 1


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_call_without_gradients_borrows_the_cache_and_leaves_it_as_it_was(name, monkeypatch):
    """Logits alone need no copy of the cache: tokens are written behind what it holds, few or more than fit there."""
    flamingo = make_flamingo(name)
    prompt = flamingo.prefill(IDS[:, :1])
    prompt = flamingo.prefill(IDS[:, 1:], pixels=PIXELS, prompt=prompt)
    before = copy.deepcopy(prompt.cache)
    queries = [torch.arange(3, 3 + length)[None] for length in (2, 40, 3)]
    expected = [flamingo(torch.cat([IDS, query], 1), pixels=PIXELS).logits[:, IDS.shape[1] :] for query in queries]
    monkeypatch.setattr(prompt_cache, "fork", refuse_to_copy)
    with torch.no_grad():
        for query, logits in zip(queries, expected, strict=True):
            close(flamingo(query, prompt=prompt).logits, logits, name)
    for layer, old in zip(prompt.cache.layers, before.layers, strict=True):
        assert torch.equal(layer.keys, old.keys)
        assert torch.equal(layer.values, old.values)


def refuse_to_copy(*_, **__):
    raise AssertionError("the cache was copied")


def test_a_call_with_gradients_has_a_cache_of_its_own():
    """What a backward pass will read, keys without gradients among it, is not written over by the next call."""
    flamingo = make_flamingo("opt").requires_grad_(False)
    trained = flamingo.lm.model.decoder.layers[0].self_attn.q_proj.weight.requires_grad_()
    prompt = flamingo.prefill(IDS[:, 1:], pixels=PIXELS, prompt=flamingo.prefill(IDS[:, :1]))
    queries = [torch.tensor([[5, 6, word]]) for word in (7, 8)]
    alone = [torch.autograd.grad(flamingo(q, prompt=prompt, labels=q).loss, trained)[0] for q in queries]
    losses = [flamingo(q, prompt=prompt, labels=q).loss for q in queries]
    for loss, expected in zip(losses, alone, strict=True):
        assert torch.equal(torch.autograd.grad(loss, trained)[0], expected)


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_prompt_made_in_inference_mode_serves_outside_it(name):
    """Its memory may not be written to there; logits and scores are those of a prompt made without that mode."""
    flamingo = make_flamingo(name)
    made = []
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            made.append(flamingo.prefill(IDS[:, 1:], pixels=PIXELS, prompt=flamingo.prefill(IDS[:, :1])))
    query = torch.tensor([[5, 6]])
    with torch.no_grad():
        actual, expected = (flamingo(query, prompt=prompt).logits for prompt in made)
        assert torch.equal(actual, expected)
        actual, expected = (flamingo.score(query, [[3, 4], [5]], prompt=prompt).log_probs for prompt in made)
        assert torch.equal(actual, expected)
