"""A layer whose first argument is not the text: which argument the block stands on."""

import pytest
import torch
from torch import nn

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, MediaState, attach

TAGS = torch.tensor([[False, True, False, False]])


class Layer(nn.Module):
    """Of a decoder behind an encoder: what the encoder gave comes first."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, memory, hidden, scale=1.0):
        return hidden + self.mix(hidden) + scale * memory.mean(1, keepdim=True)


class Decoder(nn.Module):
    """Calls its layers by place or by keyword."""

    def __init__(self, by_keyword):
        super().__init__()
        self.layers, self.by_keyword = nn.ModuleList([Layer(), Layer()]), by_keyword

    def forward(self, hidden, memory):
        for layer in self.layers:
            hidden = layer(memory=memory, hidden=hidden) if self.by_keyword else layer(memory, hidden)
        return hidden


def opened(decoder, **options):
    """An attachment with gates that are open."""
    block = GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2, dense_without_media=False)
    for name, parameter in block.named_parameters():
        if "gate" in name:
            nn.init.constant_(parameter, 0.7)
    return attach(decoder, {1: block}, **options)


def state():
    return MediaState(media=torch.randn(1, 4, 8), layout=MediaLayout.from_tokens(TAGS))


@pytest.mark.parametrize("by_keyword", [False, True])
def test_the_block_stands_on_the_named_argument(by_keyword):
    """Tokens behind the tag change with the image, and no other does."""
    decoder = Decoder(by_keyword)
    attachment = opened(decoder, text_argument="hidden")
    hidden, memory = torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    found = []
    for _ in range(2):
        with attachment.media(state(), whole=True):
            found.append(decoder(hidden, memory))
    assert (found[0] != found[1]).any(-1).tolist() == TAGS.cumsum(1).bool().tolist()
    attachment.detach()
    assert not any(layer._forward_pre_hooks for layer in decoder.layers)


def test_a_block_on_another_tensor_is_told():
    """Where the whole text is to be run, a shorter tensor in its place is an error that names the option."""
    decoder = Decoder(by_keyword=False)
    with (
        opened(decoder).media(state(), whole=True),
        pytest.raises(RuntimeError, match=r"called with 3 of 4 tokens.*text_argument="),
    ):
        decoder(torch.randn(1, 4, 8), torch.randn(1, 3, 8))


def test_keywords_that_could_both_be_the_text_name_the_option():
    """And both keywords."""
    decoder = Decoder(by_keyword=True)
    with (
        opened(decoder).media(state()),
        pytest.raises(ValueError, match=r"\['hidden', 'memory'\].*text_argument="),
    ):
        decoder(torch.randn(1, 4, 8), torch.randn(1, 3, 8))


def test_an_argument_that_no_layer_takes_is_refused_before_anything_is_attached():
    """With those that it takes."""
    decoder = Decoder(by_keyword=True)
    with pytest.raises(ValueError, match=r"text_argument is 'x', but Layer\.forward takes memory, hidden, scale"):
        opened(decoder, text_argument="x")
    assert not any(layer._forward_pre_hooks for layer in decoder.layers)


def test_a_call_that_lacks_the_named_argument_is_told():
    """By its name."""
    layer = Layer()
    attachment = opened(
        nn.ModuleDict({"layers": nn.ModuleList([layer, Layer()])}), text_argument="scale", layers="layers"
    )
    with attachment.media(state()), pytest.raises(ValueError, match="text_argument is 'scale', but Layer was called"):
        attachment.lm["layers"][1](torch.randn(1, 3, 8), torch.randn(1, 4, 8))


@pytest.mark.parametrize(("first", "told"), [(torch.zeros(3), r"of shape \(3,\)"), (None, "NoneType")])
def test_a_first_argument_that_is_no_text_is_told(first, told):
    """What it is, and the option that names the one which is."""
    layer = Layer()
    attachment = opened(nn.ModuleDict({"layers": nn.ModuleList([layer, Layer()])}), layers="layers")
    with attachment.media(state()), pytest.raises(ValueError, match=rf"Layer was called with {told} first.*text_arg"):
        attachment.lm["layers"][1](first, torch.randn(1, 4, 8))


class TakesAny(Layer):
    def forward(self, **given):
        return super().forward(**given)


def test_a_layer_that_takes_any_keyword_takes_the_named_one():
    """As a compiled layer does; the name of `**given` itself hands nothing over."""
    decoder = Decoder(by_keyword=True)
    decoder.layers[1] = TakesAny()
    hidden, memory = torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    bare = decoder(hidden, memory)
    attachment = opened(decoder, text_argument="hidden")
    with attachment.media(state()):
        found = decoder(hidden, memory)
    assert (found != bare).any(-1).tolist() == [[False, True, True, True]]
    attachment.detach()
    with (
        opened(decoder, text_argument="given").media(state()),
        pytest.raises(ValueError, match="text_argument is 'given', but TakesAny was called without it"),
    ):
        decoder(hidden, memory)
