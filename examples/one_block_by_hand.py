"""Call one gated block on hidden states of your own: no model, no hooks.

Run `python examples/one_block_by_hand.py`. Two rows share a pool of three images: row 0 has two, row 1 has one. It
prints which tokens move when image 1 is exchanged for another: those that see it, once the gates are open.

    gates closed
      row 0  . . . . . .
      row 1  . . . . . .
    gates open
      row 0  . . . # # #
      row 1  . . . . . .
"""

import torch

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout

IMAGE = 9


@torch.no_grad()
def main() -> None:
    """Draw which tokens feel image 1."""
    torch.manual_seed(0)
    ids = torch.tensor([[IMAGE, 1, 2, IMAGE, 3, 4], [5, 6, 7, IMAGE, 8, 1]])
    layout = MediaLayout.from_tokens(ids == IMAGE)
    block = GatedCrossAttentionBlock(dim=32, vision_dim=16, num_heads=4)
    text = torch.randn(2, 6, 32)  # batch text dim: what your layer would be given
    media = torch.randn(3, 8, 16)  # items latents vision_dim: images 0 and 1 of row 0, then image 2 of row 1
    other = media.clone()
    other[1] = torch.randn(8, 16)

    for name, value in (("closed", 0.0), ("open", 1.0)):
        block.attention_gate.gate.fill_(value)
        moved = (block(text, media, layout) != block(text, other, layout)).any(-1)
        print("gates", name)
        for row, flags in enumerate(moved.tolist()):
            print(f"  row {row} ", *("#" if flag else "." for flag in flags))


if __name__ == "__main__":
    main()
