"""A language model and a tower of transformers, by name or folder, with fresh blocks between them."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel

from flamingo_blocks import Flamingo
from flamingo_blocks.hf import FlamingoConfig
from flamingo_blocks.hf.parts import build_flamingo
from flamingo_blocks.models import FlamingoProcessor
from flamingo_blocks.vision import TransformersTower


def load(lm: str, vision: str, *, dtype: torch.dtype, seed: int, **between: Any) -> Flamingo:
    """The two with their weights, frozen, and fresh parts between them.

    Args:
        lm: Name on the hub, or folder, of a causal language model.
        vision: Likewise of a vision tower of CLIP's kind.
        dtype: Of their weights.
        seed: Of the fresh parts, the same on every rank.
        between: Arguments of `FlamingoConfig`: `every`, `num_latents`, or `resampler` and `blocks`.
    """
    model = AutoModelForCausalLM.from_pretrained(lm, dtype=dtype)
    tower = TransformersTower(CLIPVisionModel.from_pretrained(vision, dtype=dtype))
    torch.manual_seed(seed)
    config = FlamingoConfig(text_config=model.config, vision_config=tower.model.config, **between)
    return build_flamingo(config, lm=model, vision=tower)


def processor_of(lm: str, flamingo: Flamingo) -> FlamingoProcessor:
    """Reads rows by the language model's own tokenizer."""
    return FlamingoProcessor(
        tokenizer=AutoTokenizer.from_pretrained(lm),
        preprocess=flamingo.vision.preprocess,
        media_token_id=flamingo.media_token_id,
        end_token_id=flamingo.end_token_id,
    )
