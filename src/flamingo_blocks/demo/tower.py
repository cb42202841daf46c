"""The demo's vision encoder: a small convolutional tower, trained to read digits and colours, then frozen."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks.demo.images import SEEN_PAIRS, Digits, augment, tint
from flamingo_blocks.demo.words import COLOURS, DIGITS
from flamingo_blocks.training import Objective, StepReport, TrainConfig, train, warmup_hold_decay
from flamingo_blocks.vision import PatchTokens
from flamingo_blocks.vision.image_preprocess import to_rgb

IMAGE_SIZE = 8
_Batch = tuple[Float[Tensor, "n 3 height width"], Int[Tensor, " n"], Int[Tensor, " n"]]


class DigitTower(nn.Module):
    """Turn 8 x 8 pixels into a 4 x 4 grid of patch tokens.

    Args:
        dim: Width of the patch tokens.

    Example:
        >>> DigitTower(dim=16)(torch.zeros(2, 3, 8, 8)).tokens.shape
        torch.Size([2, 16, 16])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, dim: int = 64) -> None:
        super().__init__()
        self.config = {"dim": dim}  # a saved model builds the tower anew from this
        self.dim = dim
        self.grid = (IMAGE_SIZE // 2, IMAGE_SIZE // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, dim, 3, padding=1, stride=2),
            nn.GroupNorm(1, dim),
            nn.GELU(),
            nn.Conv2d(dim, dim, 3, padding=1),
        )
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Patch tokens of each image, each channel standardised."""
        patches = rearrange(self.layers(pixels), "n dim height width -> n (height width) dim")
        return PatchTokens((patches - self.mean) / self.std)

    def preprocess(self, image: Any) -> Float[Tensor, "3 height width"]:
        """Average an image of any size and kind into 8 x 8 pixels between 0 and 1.

        Images that are not square are filled up with black, the background of the digits.
        """
        rgb = to_rgb(image)
        height, width = rgb.shape[1:]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = F.pad(rgb, (left, side - width - left, top, side - height - top))
        return F.interpolate(square[None], (IMAGE_SIZE, IMAGE_SIZE), mode="area")[0]

    @torch.no_grad()
    def standardise(self, pixels: Float[Tensor, "n 3 height width"]) -> None:
        """Set mean and spread of each channel to those of these images."""
        patches = self.layers(pixels)
        self.mean.copy_(patches.mean(dim=(0, 2, 3)))
        self.std.copy_(patches.std(dim=(0, 2, 3)))


class DigitReader(nn.Module):
    """The tower and a linear layer that reads digit and colour from it; the layer is dropped after training."""

    def __init__(self, tower: DigitTower) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.dim, len(DIGITS) + len(COLOURS))

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> tuple[Tensor, Tensor]:
        """Logits of the digit and logits of the colour."""
        features = F.gelu(self.tower.layers(pixels)).amax(dim=(2, 3))
        digit, colour = self.head(features).split([len(DIGITS), len(COLOURS)], dim=-1)
        return digit, colour

    @torch.no_grad()
    def accuracy(self, pixels: Float[Tensor, "n 3 height width"], pairs: Int[Tensor, " n"]) -> float:
        """Share of images of which both digit and colour are read rightly."""
        digit, colour = self(pixels)
        return float((digit.argmax(-1) * len(COLOURS) + colour.argmax(-1) == pairs).float().mean())


def reading_loss(reader: DigitReader, batch: _Batch) -> Float[Tensor, ""]:
    """Cross-entropy of digit plus that of colour."""
    pixels, digits, colours = batch
    digit, colour = reader(pixels)
    return F.cross_entropy(digit, digits, label_smoothing=0.1) + F.cross_entropy(colour, colours, label_smoothing=0.1)


def _batches(digits: Digits, *, size: int, generator: torch.Generator) -> Iterator[_Batch]:
    allowed = torch.zeros(len(DIGITS), len(COLOURS))
    allowed.view(-1)[list(SEEN_PAIRS)] = 1
    while True:
        chosen = torch.randint(len(digits.labels), (size,), generator=generator)
        labels = digits.labels[chosen]
        colours = torch.multinomial(allowed[labels], 1, generator=generator)[:, 0]
        pixels = tint(augment(digits.images[chosen], generator), colours, jitter=0.15, generator=generator)
        yield pixels, labels, colours


def train_tower(
    reader: DigitReader,
    digits: Digits,
    *,
    steps: int,
    seed: int,
    on_step: Callable[[StepReport], None] | None = None,
) -> None:
    """Train a tower on augmented digits in the colours that are not held out, then freeze it.

    Args:
        reader: The tower with its reading layer; changed in place.
        digits: Training digits.
        steps: Updates.
        seed: Decides batches and augmentation.
        on_step: Called after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    train(
        TrainConfig(
            model=reader,
            objectives=[
                Objective(name="digits", batches=_batches(digits, size=128, generator=generator), loss=reading_loss)
            ],
            steps=steps,
            lr=3e-3,
            schedule=warmup_hold_decay(warmup=30, steps=steps, hold=0.3, floor=0.0),
            weight_decay=1e-2,
            on_step=on_step,
        )
    )
    reader.eval().requires_grad_(False)
