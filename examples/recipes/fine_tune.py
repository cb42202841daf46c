"""Fine-tune a saved model on pairs of yours, in shards.

    flamingo-blocks train examples/recipes/fine_tune.py model=runs/flamingo-9b/model pairs=my-pairs lm=LM vision=TOWER

with the language model and the tower that it was trained with, by name or folder.

As the paper fine-tunes (arXiv 2204.14198, appendix B.2.2): blocks, resampler and tower train, the learning rate is
small and falls by factors of ten, batches are small, one image or clip a row. `train=new_tokens` trains the rows of new
tokens alone, `train=blocks,resampler,lora` adapters in the language model. `cache=features` keeps what a frozen tower
computes.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from parts_of_transformers import processor_of
from transformers import AutoModelForCausalLM, CLIPVisionModel

from flamingo_blocks import Flamingo
from flamingo_blocks.data.examples import AugmentImages
from flamingo_blocks.training import (
    FeatureCache,
    Feed,
    RunConfig,
    TrainingSet,
    exponential,
    flamingo_loss,
    paper_feed,
    train_only,
)
from flamingo_blocks.vision import TransformersTower


def recipe(
    *,
    model: Path,
    pairs: Path,
    lm: str,
    vision: str,
    folder: Path = Path("runs/fine-tuned"),
    train: tuple[str, ...] = ("blocks", "resampler", "tower"),
    image_size: int | None = None,
    lora_rank: int = 8,
    rows: int = 16,
    text: int = 64,
    steps: int = 1000,
    lr: float = 1e-5,
    fall_every: int = 1000,
    augment: bool = False,
    cache: Path | None = None,
    workers: int = 0,
    precision: Literal["bfloat16", "float32"] = "bfloat16",
    seed: int = 0,
) -> RunConfig:
    """A saved model on images or clips with their texts; `model`, `pairs`, `lm` and `vision` are folders or names."""
    if cache is not None and ("tower" in train or augment):
        raise ValueError(
            f"cache is {cache}, which keeps features of a frozen tower and of pictures that stay the same; leave it "
            "out, or say train= without tower and leave augment out"
        )
    sets = [TrainingSet(name="pairs", folder=pairs, kind="captions", rows=rows, text=text, frames=8)]

    def feed(flamingo: Any) -> Feed:
        processor = processor_of(lm, flamingo)
        loss = flamingo_loss
        if cache is not None:
            features = FeatureCache(flamingo.vision, cache)

            def loss(flamingo: Any, batch: Any) -> torch.Tensor:
                return flamingo_loss(flamingo, features(batch))

        return paper_feed(
            sets, tokenizer=processor.tokenizer, special=processor.special, pad_id=processor.pad_token_id,
            preprocess=flamingo.vision.preprocess, seed=seed, num_workers=workers, loss=loss,
            augment_images=AugmentImages() if augment else None,
        )  # fmt: skip

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return RunConfig(
        build=partial(build, model, lm, vision, train, image_size=image_size, lora_rank=lora_rank, dtype=dtype),
        feed=feed,
        batches={each.name: each.shape for each in sets},
        steps=steps,
        lr=lr,
        folder=folder,
        options={"schedule": exponential(warmup=min(100, steps), every=fall_every)},
        seed=seed,
        precision=precision,
    )


def build(
    model: Path,
    lm: str,
    vision: str,
    train: tuple[str, ...],
    *,
    image_size: int | None,
    lora_rank: int,
    dtype: torch.dtype,
) -> Flamingo:
    """The saved model around its frozen parts, with adapters if they are to train, and what trains chosen."""
    own = torch.float32 if "tower" in train else dtype  # what trains keeps all its digits
    tower = TransformersTower(CLIPVisionModel.from_pretrained(vision, dtype=own), image_size=image_size)
    language_model = AutoModelForCausalLM.from_pretrained(lm, dtype=dtype)
    flamingo = Flamingo.from_pretrained(model, lm=language_model, vision=tower)
    if "lora" in train:
        import peft  # noqa: PLC0415 - for those alone who want adapters

        config = peft.LoraConfig(r=lora_rank, target_modules="all-linear")
        peft.inject_adapter_in_model(config, flamingo.lm)
    train_only(flamingo, *train)  # type: ignore[arg-type] - its words are checked there
    return flamingo
