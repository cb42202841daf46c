"""Laws 1, 9 and 16 for attached blocks: nothing is left behind, closed gates change nothing, errors leave no trace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_blocks import MediaLayout, MediaState, attach
from flamingo_blocks.lm import Attachment, find_decoder_layers
from tests.flamingos import (
    EXAMPLE_ROWS,
    KNOWN_TAG,
    LATENTS,
    VISION_DIM,
    Batch,
    close,
    make_batch,
    make_block,
    text_rows,
)
from tests.language_models import LAYERS, NAMES, PlainDecoder, make_language_model
from tests.strategies import heavy, seeds

language_models = pytest.mark.parametrize("name", NAMES)


def logits_of(lm: nn.Module, input_ids: Tensor) -> Tensor:
    out = lm(input_ids)
    return out if isinstance(out, Tensor) else out.logits


def state_of(batch: Batch, seed: int, dtype: torch.dtype = torch.float64) -> MediaState:
    """A pool of drawn media tokens under the layout of the batch."""
    layout = MediaLayout.from_tokens(batch.is_media, valid=batch.real)
    noise = torch.Generator().manual_seed(seed + 1)
    media = torch.randn(layout.num_items, LATENTS, VISION_DIM, generator=noise, dtype=torch.float64)
    return MediaState(media=media.to(dtype), layout=layout)


def attached(name: str, layers: list[int], **options) -> Attachment:
    lm = make_language_model(name).double()
    return attach(lm, {layer: make_block(layer, **options).double() for layer in layers})


def trace_of(lm: nn.Module) -> list[list[object]]:
    """Class and attributes of every module, the contents of its tables of hooks among them, to compare by identity."""
    return [
        [type(module), *(part for key, value in vars(module).items() for part in (key, *_parts(value)))]
        for module in lm.modules()
    ]


def _parts(value: object) -> list[object]:
    return [part for item in value.items() for part in item] if isinstance(value, dict) else [value]


def same(before: list[list[object]], after: list[list[object]]) -> bool:
    """Whether two traces hold the very same objects; keys of hooks are small numbers, which compare by value."""
    return len(before) == len(after) and all(
        len(a) == len(b) and all(x is y or (isinstance(x, int | str) and x == y) for x, y in zip(a, b, strict=True))
        for a, b in zip(before, after, strict=True)
    )


@st.composite
def layers_of(draw: st.DrawFn, name: str) -> list[int]:
    return sorted(draw(st.sets(st.integers(0, LAYERS[name] - 1), min_size=1)))


@language_models
@heavy(5)
@given(st.data(), text_rows(), seeds, st.sampled_from(["unused", "used", "failed", "moved to front"]))
def test_attach_then_detach_is_the_identity(name, data, rows, seed, fate):
    """Whatever happened in between, the model has the keys, attributes, hooks and outputs it had before."""
    lm = make_language_model(name)
    batch = make_batch(rows, seed, tag=KNOWN_TAG)
    lm.register_forward_pre_hook(lambda *_: None)  # someone else's hook stays
    before, keys, logits = trace_of(lm), list(lm.state_dict()), logits_of(lm, batch.input_ids)
    attachment = attach(lm, {layer: make_block(layer) for layer in data.draw(layers_of(name))})
    state = state_of(batch, seed, torch.float32)
    if fate in ("used", "moved to front"):
        if fate == "moved to front":
            attachment.move_to_front()
        with attachment.media(state):
            logits_of(lm, batch.input_ids)
    elif fate == "failed":
        with pytest.raises(ZeroDivisionError), attachment.media(state):
            raise ZeroDivisionError
    assert list(lm.state_dict()) == keys
    assert attachment.detach() is lm
    assert same(before, trace_of(lm))
    assert list(lm.state_dict()) == keys
    assert torch.equal(logits_of(lm, batch.input_ids), logits)


@language_models
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@heavy(5)
@given(st.data(), text_rows(), seeds)
def test_closed_gates_give_the_bare_model_bit_for_bit(name, dtype, data, rows, seed):
    """New blocks in float32 change no logit of the model and no dtype of its residual, be it float32 or bfloat16."""
    lm = make_language_model(name).to(dtype)
    batch = make_batch(rows, seed, tag=KNOWN_TAG)
    expected = logits_of(lm, batch.input_ids)
    attachment = attach(lm, {layer: make_block(layer, closed=True) for layer in data.draw(layers_of(name))})
    residuals = []
    for layer in find_decoder_layers(lm).layers:  # set after ours, so this hook sees what our block gave
        layer.register_forward_pre_hook(lambda _, args: residuals.append(args[0].dtype))
    with attachment.media(state_of(batch, seed, torch.float32)):
        actual = logits_of(lm, batch.input_ids)
    assert torch.equal(actual, expected) and actual.dtype == expected.dtype
    assert residuals == [dtype] * LAYERS[name]


@language_models
@heavy(5)
@given(st.data(), text_rows(), seeds)
def test_without_media_is_the_bare_model_bit_for_bit(name, data, rows, seed):
    """The blocks are skipped, open gates and all; under an empty layout they run."""
    attachment = attached(name, data.draw(layers_of(name)))
    batch = make_batch(rows, seed, tag=KNOWN_TAG)
    with attachment.without_media():
        skipped = logits_of(attachment.lm, batch.input_ids)
    with attachment.media(state_of(batch, seed)):
        assert not torch.allclose(logits_of(attachment.lm, batch.input_ids), skipped)
    assert torch.equal(logits_of(attachment.detach(), batch.input_ids), skipped)


class BlockThenLayer(nn.Module):
    """What an attached layer computes, written out: the block, then the layer on what it gave."""

    def __init__(self, block: nn.Module, layer: nn.Module, state: MediaState) -> None:
        super().__init__()
        self.block, self.layer, self.state = block, layer, state

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.layer, name)  # transformers asks its layers for their kind of attention

    def forward(self, text: Tensor, *args: object, **kwargs: object) -> object:
        return self.layer(self.block(text, self.state.media, self.state.layout), *args, **kwargs)


@language_models
@heavy(5)
@given(st.data(), text_rows(), seeds)
def test_each_block_runs_right_before_its_layer(name, data, rows, seed):
    """The model gives what it gives with each such layer exchanged for: block, then layer."""
    layers = data.draw(layers_of(name))
    attachment = attached(name, layers)
    batch = make_batch(rows, seed, tag=KNOWN_TAG)
    state = state_of(batch, seed)
    other = make_language_model(name).double()
    for layer in layers:
        own = find_decoder_layers(other).layers
        own[layer] = BlockThenLayer(attachment.blocks[str(layer)], own[layer], state)
    with attachment.media(state):
        actual = logits_of(attachment.lm, batch.input_ids)
    close(actual, logits_of(other, batch.input_ids), name)


@heavy()
@given(layers_of("plain"), text_rows(), seeds)
def test_plain_decoder_with_blocks_is_its_loop_with_the_blocks_written_in(layers, rows, seed):
    """For a decoder of plain torch, the loop over its layers by hand: block, layer, block, layer, head."""
    attachment = attached("plain", layers)
    lm: PlainDecoder = attachment.lm
    batch = make_batch(rows, seed, tag=KNOWN_TAG)
    state = state_of(batch, seed)
    with attachment.media(state):
        actual = lm(batch.input_ids)
    attachment.detach()
    text = lm.embed(batch.input_ids)
    for index, layer in enumerate(lm.layers):
        if index in layers:
            text = attachment.blocks[str(index)](text, state.media, state.layout)
        text = layer(text)
    close(actual, lm.head(text))


@language_models
@heavy(5)
@given(text_rows(), seeds, st.booleans())
def test_an_error_inside_media_leaves_the_model_clean(name, rows, seed, inside_the_model):
    """After an error in the block of code, or in the model itself, the model runs as if nothing had happened."""
    attachment = attached(name, [0])
    batch = make_batch(rows, seed, tag=KNOWN_TAG)
    state = state_of(batch, seed)
    with attachment.media(state):
        expected = logits_of(attachment.lm, batch.input_ids)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    last = find_decoder_layers(attachment.lm).layers[-1].register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError), attachment.media(state):
        logits_of(attachment.lm, batch.input_ids) if inside_the_model else fail()
    last.remove()
    with pytest.raises(RuntimeError, match="called without media"):
        logits_of(attachment.lm, batch.input_ids)
    with attachment.media(state):
        assert torch.equal(logits_of(attachment.lm, batch.input_ids), expected)


@pytest.mark.parametrize("outer", ["media", "without_media"])
@pytest.mark.parametrize("inner", ["media", "without_media"])
def test_contexts_do_not_nest(outer, inner):
    """A second block is refused, and the first goes on with the media it had."""
    attachment = attached("plain", [0])
    batch = make_batch(EXAMPLE_ROWS, 0, tag=KNOWN_TAG)

    def opened(kind: str, seed: int):
        return attachment.media(state_of(batch, seed)) if kind == "media" else attachment.without_media()

    with opened(outer, 0):
        before = logits_of(attachment.lm, batch.input_ids)
        with pytest.raises(RuntimeError, match="open already, or another thread"), opened(inner, 1):
            raise AssertionError
        with pytest.raises(RuntimeError, match="leave the with block first"):
            attachment.detach()
        assert torch.equal(logits_of(attachment.lm, batch.input_ids), before)
