"""The published sizes of IDEFICS and Llama 3.2 Vision, as transformers builds them: names and shapes, no weights.

The files themselves could not be opened where this was written; sizes are those of the models' cards.
"""

import pytest
import torch
from torch import nn
from transformers import (
    IdeficsConfig,
    IdeficsForVisionText2Text,
    MllamaConfig,
    MllamaForConditionalGeneration,
)

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.interop import idefics_parts, mllama_parts, open_checkpoint, plan_foreign

_CLIP_H = {"embed_dim": 1280, "image_size": 224, "intermediate_size": 5120, "num_attention_heads": 16,
           "num_hidden_layers": 32, "patch_size": 14}  # fmt: skip
_IDEFICS = {"additional_vocab_size": 2, "cross_layer_interval": 4, "use_resampler": True, "vision_config": _CLIP_H,
            "perceiver_config": {"use_resampler": True, "qk_layer_norms_perceiver": True}}  # fmt: skip
_IDEFICS_80B = {"hidden_size": 8192, "intermediate_size": 22016, "num_hidden_layers": 80, "num_attention_heads": 64,
                "alpha_type": "vector", "qk_layer_norms": True}  # fmt: skip
_VISION_90B = {"image_size": 560}
_LLAMA_90B = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 100, "num_attention_heads": 64,
              "cross_attention_layers": list(range(3, 100, 5))}  # fmt: skip

MODELS = {
    "IDEFICS 9B": (IdeficsForVisionText2Text, IdeficsConfig(**_IDEFICS), idefics_parts, range(0, 32, 4)),
    "IDEFICS 80B": (
        IdeficsForVisionText2Text, IdeficsConfig(**_IDEFICS | _IDEFICS_80B), idefics_parts, range(0, 80, 4),
    ),
    "Llama 3.2 Vision 11B": (
        MllamaForConditionalGeneration, MllamaConfig(vision_config={"image_size": 448}), mllama_parts, range(3, 32, 4),
    ),
    "Llama 3.2 Vision 90B": (
        MllamaForConditionalGeneration, MllamaConfig(vision_config=_VISION_90B, text_config=_LLAMA_90B), mllama_parts,
        range(3, 80, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_its_place_and_shape(name):
    """A checkpoint of that size is read without a tensor to spare on either side, all of one shape."""
    build, config, make_parts, layers = MODELS[name]
    with torch.device("meta"):
        checkpoint = build(config).state_dict()
        parts = make_parts(config)
    opened = open_checkpoint(checkpoint)
    plan = plan_foreign(opened, **parts)
    assert sorted(plan.blocks) == list(layers)
    with torch.device("meta"):
        blocks = {layer: GatedCrossAttentionBlock(**arguments) for layer, arguments in plan.blocks.items()}
        resampler = None if plan.resampler is None else PerceiverResampler(**plan.resampler)
        projection = None if plan.projection is None else nn.Linear(**plan.projection)
        made = {"blocks": blocks, "resampler": resampler, "projection": projection}
        flamingo = Flamingo(lm=parts["lm"], vision=parts["vision"], **made, **plan.flamingo)
        state = flamingo.state_dict()
    assert {name for entry in plan.entries for name in entry.names} == checkpoint.keys()
    assert {name for entry in plan.entries for name in entry.ours} == state.keys()
    for entry in plan.entries:
        wanted = entry.foreign_shape([state[name].shape for name in entry.ours])
        assert all(opened.shapes[name] == wanted for name in entry.names)
