"""A model like Flamingo-9B: a language model of seven billion parameters, a block before every fourth layer.

    flamingo-blocks train examples/recipes/flamingo_9b.py --dry-run --ranks 64
    torchrun --nproc-per-node 8 -m flamingo_blocks.cli train examples/recipes/flamingo_9b.py data=/data

Neither the paper's language model nor its tower is public: Llama 2 of the same size and CLIP ViT-L/14 at 336 pixels
stand for them. Data, weights, batches, learning rate and precision are the paper's (arXiv 2204.14198); its batches are
those of its ablations, for the final ones are not printed.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from parts_of_transformers import load, processor_of
from transformers import CLIPVisionConfig, LlamaConfig

from flamingo_blocks import Flamingo
from flamingo_blocks.data.examples import AugmentImages
from flamingo_blocks.hf import FlamingoConfig
from flamingo_blocks.hf.parts import build_flamingo
from flamingo_blocks.training import Feed, RunConfig, paper_feed, paper_sets, warmup_hold_decay

EVERY = 4
LLAMA = LlamaConfig()  # its defaults are those of the model of seven billion parameters
CLIP = CLIPVisionConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
    patch_size=14, projection_dim=768,
)  # fmt: skip


def recipe(
    *,
    data: Path = Path("data"),
    folder: Path = Path("runs/flamingo-9b"),
    lm: str = "meta-llama/Llama-2-7b-hf",
    vision: str = "openai/clip-vit-large-patch14-336",
    sets: tuple[str, ...] = ("pages", "pairs", "long_pairs", "clips"),
    steps: int = 500_000,
    lr: float = 1e-4,
    warmup: int = 5000,
    divide: int = 1,
    parts: int = 1,
    workers: int = 4,
    p_next: float = 0.5,
    frozen: Literal["replicate", "shard"] = "replicate",
    hybrid: bool = False,
    precision: Literal["bfloat16", "float32"] = "bfloat16",
    recompute: bool = True,
    save_every: int = 1000,
    tensorboard: bool = False,
    seed: int = 0,
) -> RunConfig:
    """Pages, pairs, long pairs and clips in folders of `data`; `divide` makes batches smaller, `parts` cuts them up."""
    chosen = paper_sets(data, names=sets, divide=divide)

    def feed(model: Any) -> Feed:
        processor = processor_of(lm, model)
        return paper_feed(
            chosen, tokenizer=processor.tokenizer, special=processor.special, pad_id=processor.pad_token_id,
            preprocess=model.vision.preprocess, seed=seed, parts=parts, num_workers=workers, p_next=p_next,
            augment_images=AugmentImages(),
        )  # fmt: skip

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return RunConfig(
        build=partial(load, lm, vision, dtype=dtype, seed=seed, every=EVERY),
        outline=outline,
        feed=feed,
        batches={each.name: each.shape_in(parts) for each in chosen},
        steps=steps,
        lr=lr,
        folder=folder,
        options={"schedule": warmup_hold_decay(warmup=warmup), "weight_decay": 0.1},
        seed=seed,
        precision=precision,
        frozen=frozen,
        hybrid=hybrid,
        recompute=recompute,
        save_every=save_every,
        tensorboard=tensorboard,
    )


def outline() -> Flamingo:
    """Its sizes, for a plan."""
    return build_flamingo(FlamingoConfig(text_config=LLAMA, vision_config=CLIP, every=EVERY))
