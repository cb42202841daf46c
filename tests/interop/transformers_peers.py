"""Tiny random IDEFICS and Mllama of transformers, and batches as their processors make them."""

from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from transformers import (
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics.processing_idefics import (
    image_attention_mask_for_packed_input_ids_pt,
    incremental_to_binary_attention_mask,
)
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

try:
    from transformers.models.idefics.image_processing_pil_idefics import IdeficsImageProcessorPil
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
except ModuleNotFoundError:  # in transformers 5.0 the plain ones need no torchvision
    from transformers.models.idefics.image_processing_idefics import IdeficsImageProcessor as IdeficsImageProcessorPil
    from transformers.models.mllama.image_processing_mllama import MllamaImageProcessor as MllamaImageProcessorPil

VOCAB, END, PAD = 30, 2, 0
FAKE, IMAGE = VOCAB, VOCAB + 1  # IDEFICS' additional tokens
MLLAMA_IMAGE = VOCAB
RATIOS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]
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
        "vision_config": {**VISION, "embed_dim": 12, "num_attention_heads": 3, "layer_norm_eps": 1e-2},
        "rope_parameters": ROPE,
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


class _Tokens:
    """As much of a tokenizer as the function that makes IDEFICS' masks asks for."""

    eos_token_id = END

    def convert_tokens_to_ids(self, _token: str) -> int:
        return IMAGE


def idefics_batch(rows: list[list[int]], seed: int = 0) -> dict[str, Tensor]:
    """What `IdeficsProcessor` makes of rows of ids, with drawn pixels."""
    batch = left_padded(rows)
    num_media = max(1, *(row.count(IMAGE) for row in rows))
    mask, _ = image_attention_mask_for_packed_input_ids_pt(batch["input_ids"], _Tokens())
    batch["image_attention_mask"] = incremental_to_binary_attention_mask(mask, "pt", num_classes=num_media)
    shape = (len(rows), num_media, 3, SIDE, SIDE)
    return {**batch, "pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(seed))}


def mllama_batch(rows: list[list[int]], seed: int = 0) -> dict[str, Tensor]:
    """What `MllamaProcessor` makes of rows of ids, with drawn tiles of every aspect ratio in turn."""
    batch, noise = left_padded(rows), torch.Generator().manual_seed(seed)
    counts = [row.count(MLLAMA_IMAGE) for row in rows]
    shape = (len(rows), max(1, *counts))
    pixels, ratio_ids = torch.zeros(*shape, 4, 3, SIDE, SIDE), torch.zeros(shape, dtype=torch.long)
    tiles = torch.zeros(*shape, 4, dtype=torch.long)
    tiles[:, :, 0] = 1  # at images that pad a row too
    num_tiles: list[list[int]] = [[] for _ in rows]
    for row, count in enumerate(counts):
        for place in range(count):
            ratio = int(torch.randint(len(RATIOS), (), generator=noise))
            size = RATIOS[ratio][0] * RATIOS[ratio][1]
            pixels[row, place, :size] = torch.randn(size, 3, SIDE, SIDE, generator=noise)
            ratio_ids[row, place], tiles[row, place, :size] = ratio + 1, 1
            num_tiles[row].append(size)
    sparse = [get_cross_attention_token_mask(row, MLLAMA_IMAGE) for row in batch["input_ids"].tolist()]
    if max(counts):
        dense = convert_sparse_cross_attention_mask_to_dense(sparse, num_tiles, 4, batch["input_ids"].shape[1])
        batch |= {"pixel_values": pixels, "aspect_ratio_ids": ratio_ids, "aspect_ratio_mask": tiles,
                  "cross_attention_mask": torch.from_numpy(dense)}  # fmt: skip
    return batch


def tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Words are tokens; special ones follow the vocabulary."""
    words = ["<pad>", "<s>", "</s>", "User:", "describe", "this", "a", "cat", "dog", "and"]
    vocabulary = {word: index for index, word in enumerate(words + [f"word{i}" for i in range(len(words), VOCAB)])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    plain.pre_tokenizer = WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )
    made.add_special_tokens({"additional_special_tokens": list(special)})
    return made


def idefics_processor() -> IdeficsProcessor:
    tokens = tokenizer("<fake_token_around_image>", "<image>")
    return IdeficsProcessor(IdeficsImageProcessorPil(image_size=SIDE), tokens)


def mllama_processor() -> MllamaProcessor:
    images = MllamaImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_image_tiles=4)
    return MllamaProcessor(images, tokenizer("<|image|>", "<|python_tag|>"))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 255, (height, width, 3), generator=noise, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())
