"""Tiny decoder language models with random weights: of transformers, and one of plain torch. Nothing is downloaded."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_blocks.models import PaperLanguageModel

VOCAB, DIM = 50, 32
END = 1  # the end token of the models of transformers
LAYERS = {"llama": 2, "gpt2": 3, "opt": 2, "gemma3": 3, "plain": 2}
NAMES = tuple(LAYERS)
OF_TRANSFORMERS = NAMES[:4]
LAYER_LISTS = {
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "gemma3": "model.layers",
    "plain": "layers",
}


class PlainLayer(nn.Module):
    """Causal self-attention, then a feed-forward layer, each behind a norm and with a residual.

    Not `nn.TransformerEncoderLayer`: without gradients that one rounds differently as soon as it holds any hook.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.up, self.down = nn.Linear(DIM, 48), nn.Linear(48, DIM)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class PlainDecoder(nn.Module):
    """What someone writes by hand: a loop over layers, learned positions, an untied head.

    Its `forward` knows `input_ids` alone: no mask, no positions, no cache.
    """

    def __init__(self, *, num_heads: int = 4, max_text: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, DIM)
        self.positions = nn.Embedding(max_text, DIM)
        self.layers = nn.ModuleList(PlainLayer(num_heads) for _ in range(LAYERS["plain"]))
        self.head = nn.Linear(DIM, VOCAB)

    def embed(self, input_ids: Tensor) -> Tensor:
        """What enters the first layer."""
        return self.embedding(input_ids) + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def _of_transformers(name: str, config_name: str, **arguments: Any) -> nn.Module:
    import transformers

    config = getattr(transformers, config_name)(
        vocab_size=VOCAB, pad_token_id=0, bos_token_id=2, eos_token_id=END, **arguments
    )
    return getattr(transformers, name)(config)


def _llama() -> nn.Module:
    return _of_transformers(
        "LlamaForCausalLM", "LlamaConfig", hidden_size=DIM, intermediate_size=48, num_hidden_layers=LAYERS["llama"],
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip


def _gpt2() -> nn.Module:
    return _of_transformers(
        "GPT2LMHeadModel", "GPT2Config", n_embd=DIM, n_layer=LAYERS["gpt2"], n_head=4, n_positions=64
    )


def _opt() -> nn.Module:
    return _of_transformers(
        "OPTForCausalLM", "OPTConfig", hidden_size=DIM, word_embed_proj_dim=DIM, ffn_dim=48, max_position_embeddings=64,
        num_hidden_layers=LAYERS["opt"], num_attention_heads=4,
    )  # fmt: skip


def _gemma3(sliding_window: int = 64) -> nn.Module:
    layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    return _of_transformers(
        "Gemma3ForCausalLM", "Gemma3TextConfig", hidden_size=DIM, intermediate_size=48, num_attention_heads=4,
        num_hidden_layers=LAYERS["gemma3"], num_key_value_heads=2, max_position_embeddings=64, layer_types=layer_types,
        sliding_window=sliding_window, query_pre_attn_scalar=8, head_dim=8,
    )  # fmt: skip


def _bloom() -> nn.Module:
    return _of_transformers("BloomForCausalLM", "BloomConfig", hidden_size=DIM, n_layer=2, n_head=4)


def _mamba() -> nn.Module:
    return _of_transformers("MambaForCausalLM", "MambaConfig", hidden_size=DIM, num_hidden_layers=2, state_size=4)


def _paper() -> nn.Module:
    return PaperLanguageModel(vocab_size=VOCAB, dim=DIM, depth=2, num_heads=4)


_FACTORIES: dict[str, Callable[..., nn.Module]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "opt": _opt,
    "gemma3": _gemma3,
    "plain": PlainDecoder,
    "bloom": _bloom,
    "mamba": _mamba,
    "paper": _paper,
}


@cache
def _built(name: str, options: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        lm = _FACTORIES[name](**dict(options))
    return draw_weights(lm).eval()


def make_language_model(name: str, **options: Any) -> nn.Module:
    """A fresh copy of a model of that name, in eval mode, the same weights each time."""
    return copy.deepcopy(_built(name, tuple(sorted(options.items()))))


@torch.no_grad()
def draw_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all weights anew, large enough that a wrong mask or position shows: libraries start at a spread of 0.02."""
    noise = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        drawn = torch.randn(weight.shape, generator=noise)
        if weight.ndim > 1:
            weight.copy_(drawn * weight.shape[-1] ** -0.5)
        else:
            weight.add_(drawn * 0.1)
    return module
