"""Whole models by name: a tiny one to try things on, and the paper's three on the meta device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.models.paper_language_model import PaperLanguageModel
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.vision import CallableTower, VisionTower


@dataclass(frozen=True)
class PaperSize:
    """One column of the paper's table of sizes.

    Args:
        dim: Width of the language model.
        depth: Its layers.
        num_heads: Its heads, and those of the gated blocks.
        every: A gated block stands before each layer `i` with `i % every == 0`.

    Example:
        >>> PAPER_SIZES["3b"]
        PaperSize(dim=2048, depth=24, num_heads=16, every=1)
        >>> len(range(0, PAPER_SIZES["80b"].depth, PAPER_SIZES["80b"].every))  # gated blocks
        12
    """

    dim: int
    depth: int
    num_heads: int
    every: int


# The paper prints 40 layers and 10 blocks for 9B, which contradicts its own parameter counts; 32 and 8 give them.
PAPER_SIZES = {
    "3b": PaperSize(dim=2048, depth=24, num_heads=16, every=1),
    "9b": PaperSize(dim=4096, depth=32, num_heads=32, every=4),
    "80b": PaperSize(dim=8192, depth=80, num_heads=64, every=7),
}


def every_layer(
    lm: nn.Module, make_block: Callable[[], nn.Module], *, every: int = 1, layers: str | None = None
) -> dict[int, nn.Module]:
    """Make a block for each `every`-th decoder layer, from the first on.

    Args:
        lm: The language model.
        make_block: Makes one block.
        every: 1 for each layer, 4 for the first of every four, and so on.
        layers: Dotted name of the decoder layers, where they cannot be found.

    Returns:
        Blocks by layer index, for `Flamingo` or `attach`.

    Raises:
        ValueError: If `every` is less than 1.

    Example:
        >>> lm = PaperLanguageModel(vocab_size=10, dim=8, depth=5, num_heads=2)
        >>> list(every_layer(lm, lambda: GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2), every=2))
        [0, 2, 4]
    """
    if every < 1:
        raise ValueError(f"every is {every}, wanted 1 or more")
    return {index: make_block() for index in range(0, len(find_decoder_layers(lm, layers).layers), every)}


def build_paper_flamingo(
    size: str, *, vision: VisionTower | None = None, device: torch.device | str = "meta"
) -> Flamingo:
    """Build a Flamingo with the paper's sizes.

    On the meta device, its default, nothing is allocated: use it to count parameters and plan memory.

    Args:
        size: `"3b"`, `"9b"` or `"80b"`.
        vision: A tower with features of width 3072 (NFNet-F6); without it the model takes `features`.
        device: Where to build; the language model is drawn at random, since Chinchilla is not public.

    Returns:
        The model, with one trained row for `<EOC>`; its media tag is the last entry of the table.

    Raises:
        ValueError: If the size is unknown.

    Example:
        >>> flamingo = build_paper_flamingo("3b")
        >>> round(sum(p.numel() for p in flamingo.resampler.parameters()) / 1e6, 1)
        193.6

    Source:
        Flamingo (arXiv 2204.14198), tables 4 and 5. Resampler tokens (1536 wide) reach the width of the language model
        by one projection, and heads are 128 wide, as the published counts imply.
    """
    if size not in PAPER_SIZES:
        raise ValueError(f"size is {size!r}, wanted one of {', '.join(map(repr, PAPER_SIZES))}")
    sizes = PAPER_SIZES[size]
    with torch.device(device):
        lm = PaperLanguageModel(vocab_size=32000, dim=sizes.dim, depth=sizes.depth, num_heads=sizes.num_heads)
        return Flamingo(
            vision=vision,
            resampler=PerceiverResampler(vision_dim=3072, dim=1536, num_heads=16, head_dim=128),
            projection=nn.Linear(1536, sizes.dim, bias=False),
            lm=lm,
            blocks=every_layer(
                lm,
                lambda: GatedCrossAttentionBlock(sizes.dim, vision_dim=sizes.dim, num_heads=sizes.num_heads),
                every=sizes.every,
            ),
            media_token_id=31999,
            num_new_tokens=1,
            end_token_id=32000,
        )


def build_tiny_flamingo(
    *,
    vocab_size: int = 32,
    dim: int = 32,
    depth: int = 2,
    num_heads: int = 2,
    vision_dim: int = 16,
    num_latents: int = 4,
    image_size: int = 8,
    every: int = 1,
    seed: int = 0,
) -> Flamingo:
    """Build a Flamingo that runs in milliseconds, with random weights, in plain torch.

    Args:
        vocab_size: Entries of the table; `<image>` and `<EOC>` follow as new tokens.
        dim: Width of the language model.
        depth: Its layers.
        num_heads: Its heads.
        vision_dim: Width of the patch features.
        num_latents: Media tokens of an item.
        image_size: Height and width of the pixels; patches are 4 pixels wide.
        every: A block before each `every`-th layer.
        seed: Of the weights; the global generator is left as it was.

    Returns:
        The model.

    Example:
        >>> flamingo = build_tiny_flamingo()
        >>> flamingo.media_token_id, flamingo.end_token_id
        (32, 33)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = PaperLanguageModel(vocab_size=vocab_size, dim=dim, depth=depth, num_heads=num_heads)
        patches = nn.Conv2d(3, vision_dim, kernel_size=4, stride=4)
        return Flamingo(
            vision=CallableTower(patches, image_size=image_size),
            resampler=PerceiverResampler(
                vision_dim=vision_dim, dim=vision_dim, num_latents=num_latents, depth=1, num_heads=2,
                head_dim=vision_dim // 2,
            ),
            lm=lm,
            blocks=every_layer(
                lm, lambda: GatedCrossAttentionBlock(dim, vision_dim=vision_dim, num_heads=num_heads), every=every
            ),
            media_token_id=vocab_size,
            num_new_tokens=2,
            end_token_id=vocab_size + 1,
        )  # fmt: skip
