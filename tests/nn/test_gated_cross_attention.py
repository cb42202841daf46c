"""The gated block in examples: dtypes, autocast, parts used alone, and what each slip is told."""

import pytest
import torch
from torch import nn

from flamingo_blocks.nn import (
    FeedForward,
    GatedCrossAttention,
    GatedCrossAttentionBlock,
    PerceiverResampler,
    TanhGate,
    closed_gates,
)
from flamingo_blocks.ops import MediaLayout, media_attention
from tests.strategies import make_block, tensor

OPTIONS = {"dim": 8, "vision_dim": 6, "num_heads": 2}
LAYOUT = MediaLayout.from_tokens(torch.tensor([[False, True, False, True], [True, False, False, False]]))


@pytest.fixture
def block() -> GatedCrossAttentionBlock:
    return make_block(OPTIONS, 0, dtype=torch.float32)


@pytest.fixture
def text(generator) -> torch.Tensor:
    return tensor(generator, 2, 4, 8, dtype=torch.float32)


@pytest.fixture
def media(generator) -> torch.Tensor:
    return tensor(generator, 3, 2, 6, dtype=torch.float32)


def test_a_new_block_is_the_identity(text, media):
    """The gates start at 0, of shape [1] or [dim] and never a scalar, which some sharding refuses."""
    for gate, shape in (("scalar", (1,)), ("channel", (8,))):
        block = GatedCrossAttentionBlock(8, vision_dim=6, num_heads=2, gate=gate)
        assert block.attention_gate.gate.shape == block.feed_forward_gate.gate.shape == shape
        assert torch.equal(block(text, media, LAYOUT), text)


def test_block_is_its_parts(block, text, media):
    """Attention, gate, feed-forward, gate: the parts used alone make the block."""
    seen = text + block.attention_gate(block.attention(text, media, LAYOUT))
    expected = seen + block.feed_forward_gate(block.feed_forward(seen))
    assert torch.equal(block(text, media, LAYOUT), expected)


def test_outputs_are_no_views(block, text, media):
    """A module that ends in a view breaks the hooks of sharding; these end in arithmetic."""
    assert not block(text, media, LAYOUT)._is_view()


@pytest.mark.parametrize("gate_dtype", [torch.float32, torch.bfloat16])
def test_open_block_in_bfloat16_stays_near_float32(block, text, media, gate_dtype):
    """Text and weights in bfloat16, gates in float32 or not: the dtype of the text comes out, near the exact result."""
    expected = block(text, media, LAYOUT)
    block.bfloat16()
    for gate in (block.attention_gate, block.feed_forward_gate):
        gate.to(gate_dtype)
    out = block(text.bfloat16(), media.bfloat16(), LAYOUT)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.1)


def test_autocast_computes_in_its_dtype_and_keeps_the_text(block, text, media):
    """Under autocast the residual stays float32 and the result near; gradients arrive in float32."""
    expected = block(text, media, LAYOUT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = block(text, media, LAYOUT)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=0.1, rtol=0.1)
    out.sum().backward()
    assert all(weight.grad.dtype == torch.float32 for weight in block.parameters())


@pytest.mark.parametrize("qk_norm", [None, "rms_norm"])
@pytest.mark.parametrize("projected_under", [True, False])
def test_media_projected_under_autocast_serve_outside_and_the_other_way_round(projected_under, qk_norm, text, media):
    """Decoding may go on under other rules than the prompt was read by; the results stay near."""
    block = make_block(OPTIONS | {"qk_norm": qk_norm}, 0, dtype=torch.float32)
    expected = block(text, media, LAYOUT)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=projected_under):
        kv = block.project_media(media)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not projected_under):
        out = block(text, kv, LAYOUT)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=0.1, rtol=0.1)
    out.sum().backward()
    assert all(weight.grad.dtype == torch.float32 for weight in block.parameters())


def test_media_in_another_dtype_are_cast(block, text, media):
    """A tower in bfloat16 feeds a block in float32, and the other way round."""
    near = block(text, media.bfloat16(), LAYOUT)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, block(text, media.bfloat16().float(), LAYOUT))


def test_bad_item_that_no_row_names_leaves_gradients_finite(block, text):
    """A text-only batch beside a pool that holds NaN, which no row names, trains on."""
    layout = MediaLayout.from_tokens(torch.zeros(2, 4, dtype=torch.bool))
    block(text, torch.full((1, 2, 6), float("nan")), layout).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in block.parameters())


def test_block_works_as_a_submodule_of_a_plain_decoder(text, media):
    """Nothing but tensors and a layout go in: a block sits in any module list."""
    blocks = nn.ModuleList(GatedCrossAttentionBlock(8, vision_dim=6, num_heads=2) for _ in range(2))
    hidden = text
    for block in blocks:
        hidden = block(hidden, media, LAYOUT)
    assert torch.equal(hidden, text)


def test_block_can_be_exported(text, media, without_shape_checks):
    """A layout is an input like a tensor: `torch.export` takes it apart and puts it together again."""
    block = make_block(OPTIONS | {"backend": "sdpa"}, 0, dtype=torch.float32)
    program = torch.export.export(block, (text, media, LAYOUT)).module()
    assert torch.equal(program(text, media, LAYOUT), block(text, media, LAYOUT))


def test_closed_gates_are_open_again_after_an_error(block, text, media):
    """`closed_gates` closes every gate inside and gives back the same bits, also when the inside raises."""
    before = block.attention_gate.gate.clone()
    with closed_gates(block):
        assert torch.equal(block(text, media, LAYOUT), text)
    with pytest.raises(RuntimeError, match="inside"), closed_gates(block):
        raise RuntimeError("inside")
    assert torch.equal(block.attention_gate.gate, before)


def test_gate_starts_at_its_init_and_is_a_tanh():
    """`init` is the value before tanh."""
    gate = TanhGate("channel", dim=3, init=0.5)
    x = torch.ones(2, 3)
    torch.testing.assert_close(gate(x), x * torch.tensor(0.5).tanh())


SLIPS = {
    "heads that do not divide dim": (dict(num_heads=3), "dim is 8, not a multiple of num_heads 3"),
    "key heads that do not divide": (dict(num_heads=4, num_kv_heads=3), "num_kv_heads is 3, wanted a divisor of .* 4"),
    "no key heads": (dict(num_kv_heads=0), "num_kv_heads is 0"),
}
WORDS = {
    "norm": (dict(norm="batch_norm"), "norm is 'batch_norm', wanted one of 'layer_norm', 'rms_norm'"),
    "qk_norm": (dict(qk_norm="l2"), "norm is 'l2', wanted one of"),
    "activation": (dict(activation="tanh"), "activation is 'tanh', wanted one of 'squared_relu', 'gelu'"),
    "gate": (dict(gate="vector"), 'gate is \'vector\', wanted "scalar" or "channel"'),
}


@pytest.mark.parametrize("name", SLIPS)
def test_sizes_that_do_not_fit_are_told(name):
    """Sizes that do not divide each other are told when the block is built."""
    options, message = SLIPS[name]
    with pytest.raises(ValueError, match=message):
        GatedCrossAttentionBlock(**OPTIONS | options)


@pytest.mark.parametrize("name", WORDS)
def test_unknown_word_is_told(name, without_shape_checks):
    """An unknown option is answered with the known ones."""
    options, message = WORDS[name]
    with pytest.raises(ValueError, match=message):
        GatedCrossAttentionBlock(**OPTIONS | options)


def test_channel_gate_needs_a_width():
    """A gate of one value for each channel has to know how many there are."""
    with pytest.raises(ValueError, match='gate shape "channel" needs dim'):
        TanhGate("channel")


SHAPES = {
    "text of another width": (dict(text=(2, 4, 7)), r"text has shape \(2, 4, 7\), wanted \[batch text 8\]"),
    "media of another width": (dict(media=(3, 2, 7)), r"media has shape \(3, 2, 7\), wanted \[items latents 6\]"),
    "media without latents": (dict(media=(3, 6)), r"media has shape \(3, 6\), wanted .*from_grid"),
    "text longer than the layout": (dict(text=(2, 5, 8)), r"query has batch and text \(2, 5\), the layout \(2, 4\)"),
    "pool too small": (dict(media=(2, 2, 6)), "the media pool holds 2 items, but the layout names item 2"),
    "padded media beside a layout of packed items": (dict(media=(2, 1, 2, 6)), "media is padded to 1 items a row"),
    "valid of another pool": (dict(valid=torch.ones(2, 2, dtype=torch.bool)), r"valid .*\(2, 2\), wanted .*\(3, 2\)"),
    "valid as integers": (dict(valid=torch.ones(3, 2, dtype=torch.long)), "valid is torch.int64 .* wanted bool"),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("part", ["block", "attention"])
def test_wrong_shape_is_told(name, part, block, without_shape_checks):
    """The library says itself which shape or dtype does not fit."""
    given, message = SHAPES[name]
    module = block if part == "block" else block.attention
    text, media = torch.zeros(given.get("text", (2, 4, 8))), torch.zeros(given.get("media", (3, 2, 6)))
    with pytest.raises(ValueError, match=message):
        module(text, media, LAYOUT, valid=given.get("valid"))


def test_valid_beside_projected_media_is_told(block, text, media):
    """A `MediaKV` has flags of its own; two sets of them have no meaning."""
    kv = block.project_media(media)
    with pytest.raises(ValueError, match="valid was given beside a MediaKV"):
        block(text, kv, LAYOUT, valid=torch.ones(3, 2, dtype=torch.bool))


def test_projected_media_of_another_block_are_told(block, text, media, without_shape_checks):
    """Keys with another head size than the block's query are refused."""
    other = GatedCrossAttention(8, vision_dim=6, num_heads=2, head_dim=3)
    with pytest.raises(ValueError, match="with one head_dim"):
        block(text, other.project_media(media), LAYOUT)


def test_feed_forward_may_be_given_its_width(generator):
    """`hidden_dim` says the hidden width itself, in place of `ff_mult`."""
    assert FeedForward(8, hidden_dim=5).up_proj.out_features == 5
    assert FeedForward(8, ff_mult=2).up_proj.out_features == 16
    assert FeedForward(8)(tensor(generator, 3, 8, dtype=torch.float32)).shape == (3, 8)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("layout", [None, LAYOUT.mask()], ids=["none", "mask"])
@pytest.mark.parametrize("kind", [GatedCrossAttentionBlock, GatedCrossAttention])
def test_a_layout_is_no_mask(kind, layout, text, media):
    """The error says how a layout is made; projected media are told the same."""
    part = kind(**OPTIONS)
    wanted = rf"layout is a {type(layout).__name__}, wanted a MediaLayout; make it with MediaLayout.from_tokens\("
    for given in (media, part.project_media(media)):
        with pytest.raises(TypeError, match=wanted):
            part(text, given, layout)
    heads = text.unflatten(-1, (2, 4))
    with pytest.raises(TypeError, match=wanted):
        media_attention(heads, heads, heads, layout)


@pytest.mark.parametrize("name", ["dim", "vision_dim", "num_heads", "head_dim", "num_kv_heads"])
def test_sizes_below_one_are_told(name):
    """Before anything divides by them."""
    with pytest.raises(ValueError, match=f"^{name} is 0, wanted "):
        GatedCrossAttentionBlock(**{**OPTIONS, name: 0})


WIDTHS = {
    "no hidden width": (dict(hidden_dim=0), "hidden_dim is 0, wanted 1 or more"),
    "a negative one": (dict(hidden_dim=-1), "hidden_dim is -1, wanted 1 or more"),
    "a multiple of nothing": (dict(ff_mult=0), "ff_mult is 0, .* hidden width of 0 for dim 8; .* or hidden_dim itself"),
    "a negative multiple": (dict(ff_mult=-1), "ff_mult is -1, .* hidden width of -8"),
    "less than one": (dict(ff_mult=0.1), "ff_mult is 0.1, .* hidden width of 0"),
}


@pytest.mark.parametrize("name", WIDTHS)
def test_hidden_widths_below_one_are_told(name):
    """By the layer itself, the block and the resampler, each by the argument that they were given."""
    options, message = WIDTHS[name]
    with pytest.raises(ValueError, match=message):
        FeedForward(8, **options)
    with pytest.raises(ValueError, match=message):
        GatedCrossAttentionBlock(**OPTIONS | options)
    if "ff_mult" in options:
        with pytest.raises(ValueError, match=message):
            PerceiverResampler(vision_dim=6, dim=8, depth=1, num_heads=2, **options)


def test_a_feed_forward_layer_of_no_width_is_told():
    """Nothing can be normed there."""
    with pytest.raises(ValueError, match="^dim is 0, wanted 1 or more"):
        FeedForward(0)


@pytest.mark.usefixtures("without_shape_checks")
def test_media_of_one_clip_are_told_from_a_pool(block, text, media):
    """A resampler that got images without the axis of frames gives them; the error says so, and no other does."""
    with pytest.raises(ValueError, match=r"shape \(2, 6\), .* its input is \[items frames patches vision_dim\]"):
        block(text, media[0], LAYOUT)
    with pytest.raises(ValueError, match=r"MediaLayout.from_grid(\n|$)"):
        block(text, media[..., :5], LAYOUT)
