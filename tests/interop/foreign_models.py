"""Small models that compute what a family computes, with drawn weights, and their language models."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.nn.presets import block_preset, resampler_preset
from flamingo_blocks.vision import CallableTower
from tests.language_models import DIM, VOCAB, PlainDecoder, draw_weights

SIDE = 8
FAMILIES = ("open_flamingo", "otter", "flamingo_mini", "flamingo_pytorch")


class PalmLike(nn.Module):
    """A decoder with the names that flamingo-pytorch gives the parts of its own."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.token_emb = nn.Embedding(VOCAB, DIM)
        self.layers = nn.ModuleList(_Residual(nn.Linear(DIM, DIM)) for _ in range(depth))
        self.layers.append(nn.Identity())
        self.to_logits = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, VOCAB, bias=False))
        self.to_logits[1].weight = self.token_emb.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.token_emb(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.to_logits(x)


class _Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fn(x).cumsum(1).tanh()  # causal


class InnerDecoder(nn.Module):
    """A decoder inside a model with the head, as OPT and GPT-2 have it and flamingo-mini wants it."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(VOCAB, DIM)
        self.transformer.h = nn.ModuleList(_Residual(nn.Linear(DIM, DIM)) for _ in range(depth))
        self.lm_head = nn.Linear(DIM, VOCAB, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.transformer.wte(input_ids)
        for layer in self.transformer.h:
            x = layer(x)
        return self.lm_head(x)


@dataclass(frozen=True)
class ForeignCase:
    """A model of a family, by its sizes."""

    family: str
    depth: int
    every: int
    latents: int
    resampler_depth: int
    frames: int
    new_rows: bool
    seed: int

    def language_model(self, seed: int | None = None) -> nn.Module:
        """The plain language model; another seed gives other weights."""
        makers = {"flamingo_pytorch": PalmLike, "flamingo_mini": InnerDecoder}
        with torch.random.fork_rng(devices=[]):
            lm = makers[self.family](self.depth) if self.family in makers else _plain(self.depth)
        return draw_weights(lm, self.seed if seed is None else seed).eval()

    def tower(self) -> CallableTower:
        """The tower, of the width of the blocks where the family wants that."""
        return CallableTower(draw_weights(nn.Conv2d(3, self.vision_dim, 4, 4), 9), image_size=SIDE)

    @property
    def vision_dim(self) -> int:
        return DIM if self.family == "flamingo_pytorch" else 16

    def build(self) -> Flamingo:
        """The model."""
        first = self.every - 1 if self.family in ("open_flamingo", "otter") else 0
        shift = self.family == "flamingo_pytorch"
        heads = {"num_heads": 2, "head_dim": 64}
        resampler = PerceiverResampler(
            vision_dim=self.vision_dim, dim=self.vision_dim, num_latents=self.latents, depth=self.resampler_depth,
            **resampler_preset("open_flamingo", max_frames=self.frames, **heads),
        )  # fmt: skip
        layers = [layer + shift for layer in range(first, self.depth, self.every)]
        options: dict[str, Any] = {"num_new_tokens": 2, "media_token_id": VOCAB + 1, "end_token_id": VOCAB}
        flamingo = Flamingo(
            lm=self.language_model(),
            vision=self.tower(),
            resampler=draw_weights(resampler, self.seed + 1),
            blocks={
                layer: draw_weights(
                    GatedCrossAttentionBlock(
                        DIM, vision_dim=self.vision_dim, **block_preset("open_flamingo", **heads)
                    ),
                    self.seed + layer + 2,
                )
                for layer in layers
            },
            **(options if self.new_rows else {"media_token_id": 3}),
        )  # fmt: skip
        if flamingo.token_rows is not None:
            draw_weights(flamingo.token_rows, self.seed + 3)
        return flamingo.eval()

    @property
    def options(self) -> dict[str, Any]:
        """What a checkpoint does not tell."""
        options: dict[str, Any] = {} if self.new_rows else {"media_token_id": 3}
        return options | ({"clips": True} if self.family == "flamingo_pytorch" and self.frames else {})


def _plain(depth: int) -> nn.Module:
    lm = PlainDecoder()
    lm.layers = nn.ModuleList(lm.layers[0].__class__(4) for _ in range(depth))
    return lm


@st.composite
def foreign_cases(draw: st.DrawFn, *, families: tuple[str, ...] = FAMILIES) -> ForeignCase:
    """A model of any family, any sizes."""
    family = draw(st.sampled_from(families))
    depth = draw(st.integers(1, 4))
    return ForeignCase(
        family=family,
        depth=depth,
        every=draw(st.integers(1, depth)),
        latents=draw(st.integers(1, 3)),
        resampler_depth=draw(st.integers(1, 2)),
        frames=draw(st.integers(1 if family == "flamingo_mini" else 0, 2)),
        new_rows=family != "flamingo_pytorch" and draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


def write_shards(checkpoint: dict[str, Tensor], folder: Path, count: int = 3) -> None:
    """Three files of safetensors and their index, as transformers writes them."""
    folder.mkdir()
    places = {}
    for number in range(count):
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {key: tensor.clone() for n, (key, tensor) in enumerate(checkpoint.items()) if n % count == number}
        save_file(part, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
