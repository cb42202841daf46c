"""Train blocks in a frozen decoder of plain torch, until it tells two kinds of image apart.

Run `python examples/freeze_and_train.py`. The decoder is a stack of torch's own layers, with random weights that never
move; only the blocks learn. The last line closes the gates again. It prints:

    decoder as it was: True
    right with images: more than 95 %
    right with gates closed: less than 65 %
"""

import torch
import torch.nn.functional as F
from torch import nn

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, MediaState, attach
from flamingo_blocks.nn import closed_gates


def main() -> None:
    """Train for some seconds, and ask."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, dropout=0.0, batch_first=True)
    lm = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False).requires_grad_(False)
    before = [weight.clone() for weight in lm.parameters()]
    table, head = torch.randn(2, 32), torch.randn(32, 2)  # <image> is; and the scores of two answers
    kinds = torch.randn(2, 1, 16)  # what makes an image one of the first kind, or of the second
    attachment = attach(lm, {index: GatedCrossAttentionBlock(32, vision_dim=16, num_heads=4) for index in (0, 1)})
    layout = MediaLayout.from_tokens(torch.tensor([[True, False]]).repeat(64, 1))
    causal = nn.Transformer.generate_square_subsequent_mask(2)

    def ask() -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(2, (64,))
        state = MediaState(media=kinds[kind] + 0.5 * torch.randn(64, 4, 16), layout=layout)
        with attachment.media(state):
            return lm(table.repeat(64, 1, 1), mask=causal, is_causal=True)[:, -1] @ head, kind

    optimiser = torch.optim.AdamW(attachment.blocks.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(*ask())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    same = all(torch.equal(weight, old) for weight, old in zip(lm.parameters(), before, strict=True))
    print("decoder as it was:", same)
    scores, kind = ask()
    right = (scores.argmax(1) == kind).float().mean().item()
    print("right with images:", "more than 95 %" if right > 0.95 else f"{right:.0%}")
    with closed_gates(attachment.blocks):
        scores, kind = ask()
    right = (scores.argmax(1) == kind).float().mean().item()
    print("right with gates closed:", "less than 65 %" if right < 0.65 else f"{right:.0%}")


if __name__ == "__main__":
    main()
