"""Blocks and their parts in one graph each: equal to eager code in output and in every gradient."""

import pytest
import torch

from flamingo_blocks.nn import FeedForward, GatedCrossAttention, TanhGate
from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.ops.attention import available_backends, media_attention
from tests.compile.compiled import (
    DIM,
    LATENTS,
    VISION_DIM,
    assert_compiled_is_eager,
    compile_whole,
    draw,
    make_block,
    noise,
    place,
)

OPTIONS = {
    "paper": {},
    "grouped_query": {"num_heads": 4, "num_kv_heads": 2},
    "qk_norm": {"qk_norm": "rms_norm", "norm": "rms_norm"},
    "channel_gates": {"gate": "channel", "media_norm": False},
    "swiglu": {"activation": "swiglu"},
    "leaves_blind_text_alone": {"dense_without_media": False},
    "checkpointed": {"activation_checkpointing": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_compiled_block_is_the_eager_block(options):
    """Each option of a block compiles whole and changes neither output nor gradients."""
    block, layout = make_block(**options), place(5, 13).prepare()
    assert_compiled_is_eager(
        lambda text, media: block(text, media, layout),
        compile_whole(lambda text, media: block(text, media, layout)),
        [noise(2, 13, DIM), noise(5, LATENTS, VISION_DIM)],
        list(block.parameters()),
    )


LAYOUTS = {
    "unprepared": lambda: place(5, 13),
    "scope_all": lambda: place(5, 13, scope="all").prepare(),
    "scope_all_unprepared": lambda: place(5, 13, scope="all"),
    "items_that_nobody_sees": lambda: place(4, 13, item_ids=torch.tensor([[4, 1], [2, 2]])).prepare(),
    "text_alone": lambda: place(0, 13).prepare(),
    "one_item": lambda: place(1, 13).prepare(),
}


@pytest.mark.parametrize("make_layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_compiled_block_takes_any_layout(make_layout):
    """Prepared or not, with one item or several a token, with items that nobody sees, with none at all."""
    block, layout = make_block(), make_layout()
    items = {0: 0, 1: 1}.get(layout.num_items, 5)
    assert_compiled_is_eager(
        lambda text, media: block(text, media, layout),
        compile_whole(lambda text, media: block(text, media, layout)),
        [noise(2, 13, DIM), noise(items, LATENTS, VISION_DIM)],
        list(block.parameters()),
    )


@pytest.mark.parametrize("projected", [False, True])
def test_a_compiled_block_takes_media_with_holes(projected):
    """Latents that do not count are left out, given with the media or with keys and values projected before."""
    block, layout, valid = make_block(num_heads=4, num_kv_heads=2), place(5, 13).prepare(), noise(5, LATENTS) > 0
    compiled = compile_whole(block.forward)

    def run(forward):
        if not projected:
            return lambda text, media: forward(text, media, layout, valid=valid)
        return lambda text, media: forward(text, block.project_media(media, valid=valid), layout)

    assert_compiled_is_eager(
        run(block.forward),
        run(compiled),
        [noise(2, 13, DIM), noise(5, LATENTS, VISION_DIM)],
        list(block.parameters()),
    )


def test_a_compiled_block_takes_a_padded_pool():
    """Media as [batch media latents dim] beside a layout of a grid."""
    block, tags = make_block(), torch.tensor([[0, 1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]]).bool()
    layout = MediaLayout.from_grid(tags, num_media=3).prepare()
    assert_compiled_is_eager(
        lambda text, media: block(text, media, layout),
        compile_whole(lambda text, media: block(text, media, layout)),
        [noise(2, 7, DIM), noise(2, 3, LATENTS, VISION_DIM)],
        list(block.parameters()),
    )


def test_the_attention_half_compiles_alone():
    """`GatedCrossAttention` without gate and residual, for those who add in a way of their own."""
    attention = draw(GatedCrossAttention(DIM, vision_dim=VISION_DIM, num_heads=2))
    layout = place(5, 13).prepare()
    assert_compiled_is_eager(
        lambda text, media: attention(text, media, layout),
        compile_whole(lambda text, media: attention(text, media, layout)),
        [noise(2, 13, DIM), noise(5, LATENTS, VISION_DIM)],
        list(attention.parameters()),
    )


@pytest.mark.parametrize("activation", ["squared_relu", "gelu", "relu", "silu", "swiglu"])
def test_feed_forward_compiles(activation):
    """Each activation, where eager code has a backward pass of its own."""
    layer = draw(FeedForward(DIM, activation=activation))
    assert_compiled_is_eager(layer, compile_whole(layer), [noise(2, 13, DIM)], list(layer.parameters()))


@pytest.mark.parametrize("shape", ["scalar", "channel"])
def test_gates_compile(shape):
    """A gate of either shape, and the gradient of how far it is open."""
    gate = draw(TanhGate(shape, dim=DIM))
    assert_compiled_is_eager(gate, compile_whole(gate), [noise(2, 13, DIM)], list(gate.parameters()))


def runs_compiled(name: str) -> bool:
    """Backends for this machine; `reference` reads values, and `one_token` has tests of its own."""
    return available_backends("cpu", torch.float32)[name] == "ok" and name not in ("reference", "one_token")


BACKENDS = [name for name in available_backends("cpu", torch.float32) if runs_compiled(name)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_every_backend_compiles(backend, num_kv_heads):
    """Attention by each backend that this machine runs, heads grouped or not, gives what `reference` gives eagerly."""
    layout, valid = place(5, 13).prepare(), noise(5, LATENTS) > -0.5
    sizes = [(2, 13, 4, 10), (5, LATENTS, num_kv_heads, 10), (5, LATENTS, num_kv_heads, 10)]

    def attend(backend):
        return lambda query, key, value: media_attention(query, key, value, layout, valid=valid, backend=backend)

    inputs = [noise(*shape, seed=seed) for seed, shape in enumerate(sizes)]
    assert_compiled_is_eager(attend("reference"), compile_whole(attend(backend)), inputs)


@pytest.mark.parametrize("items", [0, 1, 5])
def test_a_decoding_step_compiles(items):
    """One new token a row with keys and values projected before, whatever the number of items."""
    block, layout = make_block(), place(items, 13).slice(12, 13)
    media = block.project_media(noise(items, LATENTS, VISION_DIM))
    with torch.no_grad():
        text = noise(2, 1, DIM)
        actual = compile_whole(block.forward)(text, media, layout)
        torch.testing.assert_close(actual, block(text, media, layout), atol=1e-5, rtol=1e-5)
