"""Blocks in front of a GPT-2's layers change no logit while their gates are closed, and do once these are open.

Run `python examples/closed_gates.py`; it needs transformers, and draws a tiny GPT-2 at random. It prints:

    fresh blocks: True
    open gates: False
    text before the image: True
    taken off: True
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, MediaState, attach

IMAGE = 39


@torch.no_grad()
def main() -> None:
    """Compare logits with those of the bare model, bit for bit."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    lm = GPT2LMHeadModel(config).eval()  # or GPT2LMHeadModel.from_pretrained(...)
    ids = torch.tensor([[5, 6, IMAGE, 7, 8]])
    bare = lm(ids).logits

    attachment = attach(lm, {index: GatedCrossAttentionBlock(32, vision_dim=16, num_heads=2) for index in (0, 1)})
    state = MediaState(media=torch.randn(1, 4, 16), layout=MediaLayout.from_tokens(ids == IMAGE))
    with attachment.media(state):
        print("fresh blocks:", torch.equal(lm(ids).logits, bare))

        for block in attachment.blocks.values():
            block.attention_gate.gate.fill_(1.0)
        print("open gates:", torch.equal(lm(ids).logits, bare))
        print("text before the image:", torch.equal(lm(ids).logits[:, :2], bare[:, :2]))

    attachment.detach()
    print("taken off:", torch.equal(lm(ids).logits, bare))


if __name__ == "__main__":
    main()
