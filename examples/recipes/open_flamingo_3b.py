"""A model like OpenFlamingo-3B: OPT-1.3B and CLIP ViT-L/14, a block before every layer.

    flamingo-blocks train examples/recipes/open_flamingo_3b.py --dry-run --ranks 8 --on a100-80gb
    torchrun --nproc-per-node 8 -m flamingo_blocks.cli train examples/recipes/open_flamingo_3b.py data=/data

OpenFlamingo's own language model, MPT-1B, exists only as code that transformers does not run; OPT-1.3B is as wide and
as deep. The rest is as arXiv 2308.01390 and its code have it: pages and pairs at 1 to 2 with weights 1.0 and 0.2,
windows of 256 tokens with six images, no loss on text outside of chunks, captions of 32 tokens, flips, learning rate
1e-4 after a warm-up. Blocks and resampler have the paper's form, which is wider than the 8 heads of 64 there.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from parts_of_transformers import load, processor_of
from transformers import CLIPVisionConfig, OPTConfig

from flamingo_blocks import Flamingo
from flamingo_blocks.data.examples import AugmentImages
from flamingo_blocks.hf import FlamingoConfig
from flamingo_blocks.hf.parts import build_flamingo
from flamingo_blocks.training import Feed, RunConfig, TrainingSet, paper_feed, warmup_hold_decay

OPT = OPTConfig(hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32, word_embed_proj_dim=2048)
CLIP = CLIPVisionConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
    patch_size=14, projection_dim=768,
)  # fmt: skip


def recipe(
    *,
    data: Path = Path("data"),
    folder: Path = Path("runs/open-flamingo-3b"),
    lm: str = "facebook/opt-1.3b",
    vision: str = "openai/clip-vit-large-patch14",
    steps: int = 29_000,
    lr: float = 1e-4,
    warmup: int = 1875,
    pages: int = 2048,
    pairs: int = 4096,
    parts: int = 1,
    workers: int = 4,
    frozen: Literal["replicate", "shard"] = "replicate",
    hybrid: bool = False,
    precision: Literal["bfloat16", "float32"] = "bfloat16",
    recompute: bool = True,
    save_every: int = 1000,
    tensorboard: bool = False,
    seed: int = 42,
) -> RunConfig:
    """Pages (MMC4) and pairs (LAION-2B) in `data/documents/shards` and `data/pairs`; batches over all ranks."""
    sets = [
        TrainingSet(
            name="pages",
            folder=data / "documents" / "shards",
            kind="pages",
            rows=pages,
            text=256,
            items=6,
            mask_outside_chunks=True,
        ),
        TrainingSet(name="pairs", folder=data / "pairs", kind="captions", rows=pairs, text=32, weight=0.2),
    ]

    def feed(model: Any) -> Feed:
        processor = processor_of(lm, model)
        return paper_feed(
            sets, tokenizer=processor.tokenizer, special=processor.special, pad_id=processor.pad_token_id,
            preprocess=model.vision.preprocess, seed=seed, parts=parts, num_workers=workers, p_next=0.0,
            augment_images=AugmentImages(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
        )  # fmt: skip

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return RunConfig(
        build=partial(load, lm, vision, dtype=dtype, seed=seed),
        outline=outline,
        feed=feed,
        batches={each.name: each.shape_in(parts) for each in sets},
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
    return build_flamingo(FlamingoConfig(text_config=OPT, vision_config=CLIP))
