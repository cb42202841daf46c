"""Tiny models and tokenizers of transformers with drawn weights: nothing is downloaded."""

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from flamingo_blocks import GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.hf import FlamingoForConditionalGeneration, FlamingoProcessor
from flamingo_blocks.models import every_layer
from flamingo_blocks.vision import TransformersTower
from tests.language_models import draw_weights

WORDS = "[PAD] [BOS] [EOS] [UNK] a the cat dog red blue is here what this photo of User Flamingo : ? . one two".split()
VOCAB, TAG, END = 40, 40, 41
SIDE, LATENTS = 16, 3


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words, split at spaces; it knows no media tag."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    )


def make_lm(name: str = "llama", *, tied: bool = False) -> nn.Module:
    same: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": tied}
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **same))
    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0, **same
    )
    return LlamaForCausalLM(config)


def make_tower(name: str = "clip") -> TransformersTower:
    sizes: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip
    if name == "siglip":
        return TransformersTower(SiglipVisionModel(SiglipVisionConfig(**sizes)), layer=-2)
    return TransformersTower(CLIPVisionModel(CLIPVisionConfig(**sizes)))


def make_model(
    lm: str = "llama", tower: str = "clip", *, tied: bool = False, seed: int = 0, **options: Any
) -> FlamingoForConditionalGeneration:
    """A front with drawn weights and open gates, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language_model, vision = make_lm(lm, tied=tied), make_tower(tower)
        model = FlamingoForConditionalGeneration.from_parts(
            language_model,
            vision,
            resampler=PerceiverResampler(
                vision_dim=16, dim=8, num_latents=LATENTS, depth=1, num_heads=2, head_dim=4, max_frames=2
            ),
            blocks=every_layer(language_model, lambda: GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)),
            **{"media_token_id": TAG, "num_new_tokens": 2, "end_token_id": END, **options},
        )
    draw_weights(model.flamingo, seed)
    for block in model.flamingo.blocks.values():
        block.attention_gate.gate.data.fill_(0.7)
        block.feed_forward_gate.gate.data.fill_(0.4)
    return model.eval()


def make_processor(model: FlamingoForConditionalGeneration, **options: Any) -> FlamingoProcessor:
    return FlamingoProcessor.from_model(model, make_tokenizer(), **options)


def make_images(count: int, seed: int = 0) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 255, (3, 20, 24), generator=noise, dtype=torch.uint8) for _ in range(count)]
