"""Real handwritten digits, tinted in six colours; fifteen colour-digit pairs are kept out of all training."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.demo.words import COLOURS, DIGITS

NUM_PAIRS = len(DIGITS) * len(COLOURS)
_RGB = ((1.0, 0.1, 0.1), (0.1, 0.8, 0.1), (0.2, 0.3, 1.0), (0.9, 0.8, 0.1), (0.7, 0.1, 0.8), (1.0, 1.0, 1.0))


def pair_of(digit: int, colour: int) -> int:
    """Number of a colour-digit pair."""
    return digit * len(COLOURS) + colour


def pair_words(pair: int) -> tuple[str, str]:
    """Colour and digit of a pair in words.

    Example:
        >>> pair_words(pair_of(7, 2))
        ('blue', 'seven')
    """
    return COLOURS[pair % len(COLOURS)], DIGITS[pair // len(COLOURS)]


def _is_held_out(pair: int) -> bool:
    # Two diagonals: every digit loses one or two colours and every colour two or three digits, so that each digit and
    # each colour on its own is still met in training.
    digit, colour = divmod(pair, len(COLOURS))
    return (digit + 3 * (digit // len(COLOURS)) + colour) % len(COLOURS) == 0 or digit == colour + 2


UNSEEN_PAIRS = tuple(pair for pair in range(NUM_PAIRS) if _is_held_out(pair))
SEEN_PAIRS = tuple(pair for pair in range(NUM_PAIRS) if not _is_held_out(pair))


@dataclass(frozen=True, eq=False)
class Digits:
    """Grey images of digits with values in 0..1."""

    images: Float[Tensor, "images height width"]
    labels: Int[Tensor, " images"]


def load_digits_images(*, seed: int, test_per_digit: int = 50) -> tuple[Digits, Digits]:
    """Load scikit-learn's 1,797 digits of 8 x 8 pixels and split them into training and test images.

    Args:
        seed: Decides which images are held out.
        test_per_digit: Test images of each digit.

    Returns:
        Training digits and test digits.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """
    loaded = require("sklearn.datasets", used_by="load_digits_images", extra="demo").load_digits()
    images = torch.from_numpy(loaded.images).float() / 16
    labels = torch.from_numpy(loaded.target).long()
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(len(DIGITS)):
        is_test[shuffled[labels[shuffled] == digit][:test_per_digit]] = True
    return Digits(images[~is_test], labels[~is_test]), Digits(images[is_test], labels[is_test])


def augment(
    images: Float[Tensor, "images height width"], generator: torch.Generator
) -> Float[Tensor, "images height width"]:
    """Rotate, scale, shift and roughen grey images a little, each in its own way."""
    count = len(images)

    def spread(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) - 0.5

    angle, scale, shift = spread(count) * 0.5, 1 + spread(count) * 0.3, spread(2, count) * 0.4
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cosine, -sine, shift[0], sine, cosine, shift[1]], dim=-1).view(count, 2, 3)
    grid = F.affine_grid(rows, [count, 1, *images.shape[1:]], align_corners=False)
    moved = F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
    return (moved + torch.randn(moved.shape, generator=generator) * 0.05).clamp(0, 1.2)


def tint(
    images: Float[Tensor, "images height width"],
    colours: Int[Tensor, " images"],
    *,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "images 3 height width"]:
    """Colour grey images.

    Args:
        images: Grey images.
        colours: Position in `COLOURS` of each image's colour.
        jitter: Standard deviation of a random factor on each colour channel.
        generator: Where the jitter is drawn from.

    Returns:
        Pixels, channels first.
    """
    channels = torch.tensor(_RGB)[colours]
    if jitter:
        channels = channels * (1 + jitter * torch.randn(channels.shape, generator=generator))
    return images[:, None] * channels[:, :, None, None]


def tint_with_pairs(
    digits: Digits, pairs: tuple[int, ...]
) -> tuple[Float[Tensor, "images 3 height width"], Int[Tensor, " images"]]:
    """Every digit in each of its colours that `pairs` allows.

    Returns:
        Pixels and the pair of each image.
    """
    pixels, numbers = [], []
    for colour in range(len(COLOURS)):
        pair = digits.labels * len(COLOURS) + colour
        kept = torch.isin(pair, torch.tensor(pairs))
        pixels.append(tint(digits.images[kept], torch.full((int(kept.sum()),), colour)))
        numbers.append(pair[kept])
    return torch.cat(pixels), torch.cat(numbers)
