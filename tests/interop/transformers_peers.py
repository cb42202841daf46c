"""Tiny random IDEFICS and Mllama of transformers, and batches as their processors make them."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import IdeficsConfig, IdeficsForVisionText2Text, MllamaConfig, MllamaForConditionalGeneration

VOCAB, END, PAD = 30, 2, 0
FAKE, IMAGE = VOCAB, VOCAB + 1  # IDEFICS' additional tokens
SIDE = 8
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
TEXT = {
    "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": END,
}  # fmt: skip
VISION = {"intermediate_size": 20, "image_size": SIDE, "patch_size": 4, "num_hidden_layers": 2}


def idefics_config(*, resampler: bool = True, norms: bool = False, **changes: Any) -> IdeficsConfig:
    """An IDEFICS of four layers with a block before every second one."""
    perceiver = {
        "use_resampler": resampler, "resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 2,
        "resampler_head_dim": 5, "qk_layer_norms_perceiver": norms,
    }  # fmt: skip
    values = {
        **TEXT, "num_hidden_layers": 4, "additional_vocab_size": 2, "cross_layer_interval": 2,
        "qk_layer_norms": norms, "use_resampler": resampler, "perceiver_config": perceiver, "rms_norm_eps": 1e-5,
        "vision_config": {**VISION, "embed_dim": 12, "num_attention_heads": 3}, "rope_parameters": ROPE,
    }  # fmt: skip
    return IdeficsConfig(**(values | changes))


def mllama_config(**changes: Any) -> MllamaConfig:
    """A Mllama of three layers, with blocks before the second and the third."""
    text = {
        **TEXT, "num_hidden_layers": 5, "num_key_value_heads": 2, "cross_attention_layers": [1, 3],
        "rope_parameters": LLAMA3, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    vision = {
        **VISION, "hidden_size": 8, "attention_heads": 2, "num_global_layers": 1, "vision_output_dim": 24,
        "intermediate_layers_indices": [0, 1], "num_hidden_layers": 2,
    }  # fmt: skip
    return MllamaConfig(text_config=text | changes, vision_config=vision, image_token_index=VOCAB)


def draw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of unit gain, open gates, norms that scale: nothing is at a value that would hide a mistake."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            own = torch.randn(parameter.shape, generator=noise)
            if name.endswith(("norm.weight", "layernorm.weight", "ln.weight")) or "layer_norm" in name:
                parameter.copy_(1 + 0.3 * own)
            elif "alpha" in name or "gate" in name.rpartition(".")[2]:
                parameter.copy_(0.8 + 0.3 * own)
            elif parameter.ndim == 2 and "embed" not in name:
                parameter.copy_(own * parameter.shape[1] ** -0.5)
            else:
                parameter.copy_(0.7 * own)
    return model.eval().requires_grad_(requires_grad=False)


def tiny_idefics(**options: Any) -> IdeficsForVisionText2Text:
    with torch.random.fork_rng():
        return draw(IdeficsForVisionText2Text(idefics_config(**options)))


def tiny_mllama(**options: Any) -> MllamaForConditionalGeneration:
    with torch.random.fork_rng():
        return draw(MllamaForConditionalGeneration(mllama_config(**options)))


def left_padded(rows: list[list[int]]) -> dict[str, Tensor]:
    width = max(map(len, rows))
    pads = [width - len(row) for row in rows]
    ids = [[PAD] * pad + row for pad, row in zip(pads, rows, strict=True)]
    real = [[0] * pad + [1] * len(row) for pad, row in zip(pads, rows, strict=True)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(real)}
