"""Tiny vision-language models of transformers with drawn weights, and their processors; a token is a byte."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
except ModuleNotFoundError:  # in transformers 5.0 the plain ones need no torchvision
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor as CLIPImageProcessorPil
    from transformers.models.idefics3.image_processing_idefics3 import (
        Idefics3ImageProcessor as Idefics3ImageProcessorPil,
    )

TEXT = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.3,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4,
}  # fmt: skip


def make_tokenizer(*special: str, merges: tuple[tuple[str, str], ...] = ()) -> PreTrainedTokenizerFast:
    """One token for each byte, for each pair of letters that are merged, and the special ones."""
    texts = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE(vocab={text: place for place, text in enumerate(texts)}, merges=list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", bos_token="<s>", extra_special_tokens=list(special)
    )


def make_text(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """A language model of this vocabulary."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlamaConfig(**TEXT, **ids, vocab_size=len(tokenizer))


def make_llava(*, merges: tuple[tuple[str, str], ...] = ()) -> tuple[nn.Module, Any]:
    """Images of one size, five positions each; the flat list of images of a batch."""
    tokenizer = make_tokenizer("<image>", merges=merges)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=8, initializer_factor=8.0),
        text_config=make_text(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
    )  # fmt: skip
    images = CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    return LlavaForConditionalGeneration(config).eval(), processor


def make_idefics3() -> tuple[nn.Module, Any]:
    """Images by sample, between tokens of their own, as SmolVLM has them too."""
    tokenizer = make_tokenizer(
        "<image>", "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<end_of_utterance>"
    )
    torch.manual_seed(0)
    config = Idefics3Config(
        text_config=make_text(tokenizer),
        vision_config={**VISION, "image_size": 16, "initializer_range": 0.3},
        scale_factor=2, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 16}, max_image_size={"longest_edge": 16}, do_image_splitting=False
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4)
    return Idefics3ForConditionalGeneration(config).eval(), processor


FAMILIES = {"llava": make_llava, "idefics3": make_idefics3}
