"""A Flamingo around a Llama: saved, loaded, generating; and the front for transformers."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.hf import FlamingoForConditionalGeneration
from flamingo_blocks.models import every_layer
from flamingo_blocks.vision import CallableTower

sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
lm = LlamaForCausalLM(LlamaConfig(vocab_size=20, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes))
tower = CallableTower(torch.nn.Conv2d(3, 16, 4, stride=4), image_size=8)
flamingo = Flamingo(
    lm=lm,
    vision=tower,
    resampler=PerceiverResampler(vision_dim=16, dim=16, num_latents=4, depth=1, num_heads=2, head_dim=8),
    blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(32, vision_dim=16, num_heads=2), every=1),
    media_token_id=20,
    end_token_id=21,
    num_new_tokens=2,
).eval()
ids, pixels = torch.tensor([[1, 20, 5]]), torch.rand(1, 1, 3, 8, 8)
written = flamingo.generate(ids, pixels=pixels, max_new_tokens=3, do_sample=False)
flamingo.save_pretrained("saved", frozen="include")
again = Flamingo.from_pretrained("saved", vision=tower)
assert torch.equal(again.generate(ids, pixels=pixels, max_new_tokens=3, do_sample=False), written)
FlamingoForConditionalGeneration.from_flamingo(flamingo)
