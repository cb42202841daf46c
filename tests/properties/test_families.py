"""Laws 1, 4, 5, 7 and 9 for every family of language models, on a few drawn texts each."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_blocks import Flamingo, MediaLayout, MediaState, attach
from tests.flamingos import (
    KNOWN_TAG,
    LATENTS,
    VISION_DIM,
    Batch,
    make_batch,
    make_block,
    make_flamingo,
    prompt_rows,
    text_rows,
)
from tests.language_families import FAMILIES, parametrised
from tests.language_models import LAYERS, make_language_model
from tests.strategies import seeds

# ALiBi, states, states beside attention, experts, layers with both halves side by side; for llama see test_flamingo.py
IN_EVERY_RUN = ("falcon_alibi", "jamba", "mamba2", "mixtral", "mpt", "phi")


def named(names):
    return parametrised(names, in_every_run=IN_EVERY_RUN)


families = named(FAMILIES)
few = settings(max_examples=max(4, settings.default.max_examples // 12))
LEFT_PADDED = [name for name in FAMILIES if FAMILIES[name].can("left pads")]


def flamingo_around(name: str, **options) -> Flamingo:
    """In float32: some families cannot run, or cannot be padded, in float64."""
    return make_flamingo(name, lm=make_language_model(name), **options).float()


def batch_for(rows, seed: int, *, padded: bool = True, **options) -> Batch:
    batch = make_batch(rows, seed, dtype=torch.float32, **options)
    return batch if padded else replace(batch, real=torch.ones_like(batch.real))


def near(actual: Tensor, expected: Tensor) -> None:
    """What the families differ by in float32; a leak is a thousand times as large."""
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-4)


def state_of(batch: Batch, seed: int) -> MediaState:
    layout = MediaLayout.from_tokens(batch.is_media)
    noise = torch.Generator().manual_seed(seed)
    return MediaState(media=torch.randn(layout.num_items, LATENTS, VISION_DIM, generator=noise), layout=layout)


def trace_of(lm: nn.Module) -> list[object]:
    """Names, classes and attributes of all modules; the tables of hooks by how many they hold."""
    return [
        (name, type(module), sorted(vars(module)), len(module._forward_pre_hooks), len(module._forward_hooks))
        for name, module in lm.named_modules()
    ]


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@few
@given(st.data(), text_rows(), seeds)
def test_closed_gates_and_detaching_give_the_bare_model_bit_for_bit(name, dtype, data, rows, seed):
    """With blocks before any layers, while they are attached and afterwards; keys, attributes and hooks as before."""
    lm = make_language_model(name).to(dtype)
    batch = batch_for(rows, seed, padded=False, tag=KNOWN_TAG)
    before, keys, expected = trace_of(lm), list(lm.state_dict()), lm(batch.input_ids).logits
    layers = data.draw(st.sets(st.integers(0, LAYERS[name] - 1), min_size=1))
    attachment = attach(lm, {layer: make_block(layer, closed=True) for layer in layers})
    with attachment.media(state_of(batch, seed)):
        actual = lm(batch.input_ids).logits
    assert torch.equal(actual, expected) and actual.dtype == expected.dtype
    assert list(lm.state_dict()) == keys
    assert attachment.detach() is lm
    assert trace_of(lm) == before and list(lm.state_dict()) == keys
    assert torch.equal(lm(batch.input_ids).logits, expected)


@families
@few
@given(text_rows(), text_rows(), seeds, st.data())
def test_text_and_media_never_move_earlier_logits(name, rows, later, seed, data):
    """Whatever words, tags and images follow a column, the logits up to it stay, with the gates open."""
    flamingo = flamingo_around(name)
    batch = batch_for(rows, seed, padded=False)
    column = data.draw(st.integers(0, batch.input_ids.shape[1]))
    number = batch.input_ids.shape[0]
    other = batch_for(tuple((later * number)[:number]), seed + 1, padded=False)
    changed = batch.columns(0, column).then(other)
    before, after = flamingo(**batch.arguments()).logits, flamingo(**changed.arguments()).logits
    near(after[:, :column], before[:, :column])


@named(LEFT_PADDED)
@few
@given(text_rows(), seeds)
def test_pads_and_other_rows_change_nothing(name, rows, seed):
    """Each row has the logits it has alone, with pads on either side."""
    flamingo = flamingo_around(name)
    batch = batch_for(rows, seed)
    logits = flamingo(**batch.arguments()).logits
    for row in range(len(rows)):
        if batch.real[row].any():
            near(logits[row][batch.real[row]], flamingo(**batch.row(row).arguments()).logits[0])


@families
@few
@given(text_rows(), seeds, st.sampled_from(["last", "all"]), st.data())
def test_chunks_and_single_tokens_have_the_logits_of_the_whole(name, rows, seed, scope, data):
    """Text in pieces of any length, each with its own images, behind a prompt: one pass over all."""
    flamingo = flamingo_around(name, scope=scope)
    batch = batch_for(rows, seed, padded=False)
    width = batch.input_ids.shape[1]
    cuts = data.draw(st.sets(st.integers(1, width - 1))) if width > 1 else set()
    whole, prompt = flamingo(**batch.arguments()).logits, None
    for start, stop in itertools.pairwise([0, *sorted(cuts), width]):
        piece = batch.columns(start, stop).arguments()
        near(flamingo(**piece, prompt=prompt).logits, whole[:, start:stop])
        prompt = flamingo.prefill(**piece, prompt=prompt)
        near(prompt.logits, whole[:, stop - 1 : stop])


@families
@few
@given(prompt_rows(max_rows=1, padded=False), prompt_rows(max_rows=1, padded=False), seeds)
def test_a_chat_that_adds_images_has_the_logits_of_the_whole_conversation(name, first, second, seed):
    """What was generated, with a cache and without, and a turn with more images behind it."""
    flamingo = flamingo_around(name)
    turns = [batch_for(first, seed), batch_for(second, seed + 1)]
    more = dict(max_new_tokens=3, eos_token_id=None, do_sample=False)
    said, prompt = flamingo.generate(**turns[0].arguments(), return_prompt=True, **more)
    assert torch.equal(flamingo.generate(**turns[0].arguments(), use_cache=False, **more), said)
    is_media = torch.cat([turns[0].is_media, torch.zeros(1, 3, dtype=torch.bool), turns[1].is_media], 1)
    given = [turn.arguments() for turn in turns]
    media = [flamingo.encode_media(one["pixels"], frame_valid=one["frame_valid"]).media for one in given]
    whole = flamingo(
        torch.cat([said, turns[1].input_ids], 1), media=torch.cat(media), layout=MediaLayout.from_tokens(is_media)
    ).logits
    near(flamingo(**turns[1].arguments(), prompt=prompt).logits, whole[:, said.shape[1] :])
    last = whole[:, turns[0].input_ids.shape[1] - 1 : said.shape[1] - 1]
    assert torch.equal(last.argmax(-1), said[:, -3:])
