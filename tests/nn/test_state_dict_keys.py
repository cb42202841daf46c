"""Golden keys: a saved model of today has to load tomorrow, so names and shapes change on purpose only."""

import json
from pathlib import Path

import pytest

from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler

GOLDEN_FILE = Path(__file__).with_name("state_dict_keys.json")
GOLDEN: dict[str, dict[str, list[int]]] = json.loads(GOLDEN_FILE.read_text())
BLOCK = {"dim": 8, "vision_dim": 6, "num_heads": 2}
RESAMPLER = {"vision_dim": 8, "dim": 8, "num_latents": 3, "depth": 2, "num_heads": 2, "head_dim": 4, "max_frames": 2}
MODELS = {
    "block": lambda: GatedCrossAttentionBlock(**BLOCK),
    "block of IDEFICS": lambda: GatedCrossAttentionBlock(
        **BLOCK, norm="rms_norm", media_norm=False, qk_norm="rms_norm", activation="swiglu", gate="channel"
    ),
    "block with grouped heads": lambda: GatedCrossAttentionBlock(**BLOCK, head_dim=5, num_kv_heads=1, hidden_dim=12),
    "resampler": lambda: PerceiverResampler(**RESAMPLER),
    "resampler with every option": lambda: PerceiverResampler(
        **RESAMPLER | {"vision_dim": 6, "depth": 1, "max_frames": 0}, qk_norm="layer_norm", final_norm=True
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_keys_and_shapes(name):
    """Names and shapes are those of `state_dict_keys.json`; to change them, edit it and say so in the changelog."""
    actual = {key: list(value.shape) for key, value in MODELS[name]().state_dict().items()}
    assert actual == GOLDEN[name]


def test_every_golden_model_is_built():
    """The file lists no model that this test does not build."""
    assert GOLDEN.keys() == MODELS.keys()
