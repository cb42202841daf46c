"""Torch's default backend, which writes kernels of its own; the other tests stop before that, for it takes long."""

import shutil

import pytest
import torch

from flamingo_blocks.nn import PerceiverResampler
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

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="Inductor needs a C++ compiler on the CPU"
)


@pytest.fixture(autouse=True)
def _kernels_in_a_folder_of_their_own(tmp_path, monkeypatch):
    """No kernel of an earlier run is found, and none is left behind."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def test_a_block_by_inductor():
    """Output and gradients of a block are those of eager code, by kernels that Inductor wrote."""
    block, layout = make_block(num_heads=4, num_kv_heads=2, dense_without_media=False), place(5, 13).prepare()
    assert_compiled_is_eager(
        lambda text, media: block(text, media, layout),
        compile_whole(lambda text, media: block(text, media, layout), backend="inductor"),
        [noise(2, 13, DIM), noise(5, LATENTS, VISION_DIM)],
        list(block.parameters()),
    )


def test_a_resampler_by_inductor():
    """The same of a resampler, with patches that do not count."""
    resampler = draw(
        PerceiverResampler(vision_dim=VISION_DIM, dim=DIM, num_latents=3, depth=1, num_heads=2, head_dim=10)
    )
    valid = noise(5, 2, 9) > 0
    assert_compiled_is_eager(
        lambda vision: resampler(vision, valid),
        compile_whole(lambda vision: resampler(vision, valid), backend="inductor"),
        [noise(5, 2, 9, VISION_DIM)],
        list(resampler.parameters()),
    )


def test_the_loss_by_inductor_and_for_any_number_of_tokens(num_graphs):
    """The chunked loss stands in compiled code as one operator, in one graph for all numbers of tokens."""
    from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy

    compiled = compile_whole(linear_cross_entropy, backend="inductor")
    weight = noise(50, DIM)
    for tokens in (9, 23, 40):
        labels = torch.randint(50, (tokens,), generator=torch.Generator().manual_seed(tokens))
        labels[2] = -100
        assert_compiled_is_eager(
            lambda hidden, weight, labels=labels: linear_cross_entropy(hidden, weight, labels, chunk_size=8),
            lambda hidden, weight, labels=labels: compiled(hidden, weight, labels, chunk_size=8),
            [noise(tokens, DIM), weight],
        )
    assert num_graphs() == 1
