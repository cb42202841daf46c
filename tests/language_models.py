"""Tiny decoder language models with random weights: of transformers, and one of plain torch. Nothing is downloaded."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_blocks.models import PaperLanguageModel
from tests.language_families import DIM, END, FAMILIES, VOCAB

__all__ = [
    "DIM", "END", "LAYERS", "LAYER_LISTS", "NAMES", "OF_TRANSFORMERS", "VOCAB", "PlainDecoder", "PlainLayer",
    "draw_weights", "make_language_model",
]  # fmt: skip

# The models of most tests; those of the other families are in tests of their own.
OF_TRANSFORMERS = ("llama", "gpt2", "opt", "gemma3")
NAMES = (*OF_TRANSFORMERS, "plain")
LAYERS = {name: family.num_layers for name, family in FAMILIES.items()} | {"plain": 2}
LAYER_LISTS = {name: FAMILIES[name].layers for name in OF_TRANSFORMERS} | {"plain": "layers"}


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


def _paper() -> nn.Module:
    return PaperLanguageModel(vocab_size=VOCAB, dim=DIM, depth=2, num_heads=4)


_FACTORIES: dict[str, Callable[..., nn.Module]] = {
    **{name: family.build for name, family in FAMILIES.items()},
    "plain": PlainDecoder,
    "paper": _paper,
}


@cache
def _built(name: str, options: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # some families draw their biases
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
