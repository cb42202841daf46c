"""The resampler in one graph: equal to eager code in output and in every gradient."""

import pytest
import torch

from flamingo_blocks.nn import PerceiverResampler
from tests.compile.compiled import assert_compiled_is_eager, compile_whole, draw, noise

VISION_DIM = 14


def make_resampler(**options):
    arguments = {"vision_dim": VISION_DIM, "dim": 28, "num_latents": 3, "depth": 1, "num_heads": 2, "head_dim": 10}
    return draw(PerceiverResampler(**(arguments | {"ff_mult": 2.0, "max_frames": 4} | options)))


OPTIONS = {
    "paper": {"depth": 2},
    "open_implementations": {"final_norm": True, "activation": "gelu"},
    "idefics": {"qk_norm": "layer_norm", "activation": "swiglu"},
    "rms_norm": {"norm": "rms_norm"},
    "no_frame_embedding": {"max_frames": 0},
    "no_input_projection": {"dim": VISION_DIM},
    "checkpointed": {"activation_checkpointing": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_compiled_resampler_is_the_eager_resampler(options):
    """Each option compiles whole and changes neither output nor gradients."""
    resampler = make_resampler(**options)
    weights = list(resampler.parameters())
    assert_compiled_is_eager(resampler, compile_whole(resampler), [noise(5, 2, 9, VISION_DIM)], weights)


@pytest.mark.parametrize(("frames", "masked"), [(2, True), (6, False), (6, True)])
def test_clips_compile(frames, masked):
    """Clips with patches that do not count, and clips of more frames than have an embedding."""
    resampler = make_resampler()
    valid = None
    if masked:
        valid = noise(5, frames, 9) > 0
        valid[0, 1:] = False  # a clip of one frame
    assert_compiled_is_eager(
        lambda vision: resampler(vision, valid),
        compile_whole(lambda vision: resampler(vision, valid)),
        [noise(5, frames, 9, VISION_DIM)],
        list(resampler.parameters()),
    )


def test_no_new_graph_once_none_one_and_many_were_seen(num_graphs):
    """Pools of 0, 1 and many items are three graphs; other numbers of items and of patches make none."""
    resampler = make_resampler()
    compiled = compile_whole(resampler.forward)
    made = []
    for items, patches in [(5, 9), (1, 9), (0, 9), (8, 16), (3, 25), (7, 9), (1, 25), (0, 16)]:
        vision = noise(items, 2, patches, VISION_DIM)
        torch.testing.assert_close(compiled(vision), resampler(vision), atol=1e-5, rtol=1e-5)
        made.append(num_graphs())
    assert made == [1, 2, *[3] * 6]
