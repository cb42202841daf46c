"""The demo's vision encoder trained on captions instead of labels, as the paper's is: by the contrastive loss."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks.demo.images import NUM_PAIRS, SEEN_PAIRS, Digits, augment, pair_words, tint
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import COLOURS, DIGITS, Vocabulary
from flamingo_blocks.training import Objective, StepReport, TrainConfig, train, warmup_hold_decay
from flamingo_blocks.training.contrast.two_towers import TwoTowers, two_towers_loss


class CaptionMatcher(nn.Module):
    """The tower beside a text tower that is dropped after training: the words of a caption, averaged.

    Args:
        tower: Trained in place.
        vocabulary: Words and their ids.

    Example:
        >>> from flamingo_blocks.demo.words import demo_vocabulary
        >>> matcher = CaptionMatcher(DigitTower(dim=16), demo_vocabulary())
        >>> matcher.captions.shape  # all pairs, in six words
        torch.Size([60, 6])
    """

    captions: Tensor

    def __init__(self, tower: DigitTower, vocabulary: Vocabulary) -> None:
        super().__init__()
        words = nn.Embedding(len(vocabulary.words), tower.dim)
        self.towers = TwoTowers(tower, words, text_dim=tower.dim, dim=tower.dim)
        captions = [vocabulary.encode(["an", "image", "of", "a", *pair_words(pair)]) for pair in range(NUM_PAIRS)]
        self.register_buffer("captions", torch.tensor(captions), persistent=False)

    def forward(self, pixels: Float[Tensor, "n 3 height width"], pairs: Int[Tensor, " n"]) -> Any:
        """Vectors of pictures and of their captions."""
        return self.towers(pixels, self.captions[pairs])

    @torch.no_grad()
    def accuracy(self, pixels: Float[Tensor, "n 3 height width"], pairs: Int[Tensor, " n"]) -> float:
        """Share of images that are closest to their own caption among those of all pairs."""
        images, captions = self.towers.encode_image(pixels), self.towers.encode_text(self.captions)
        closest = (images @ nn.functional.normalize(captions).t()).argmax(-1)
        return float((closest == pairs).float().mean())


def _batches(digits: Digits, *, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """One picture of each pair: two of one pair would be each other's negatives, with the very same caption."""
    pairs = torch.tensor(SEEN_PAIRS)
    wanted, colours = pairs // len(COLOURS), pairs % len(COLOURS)
    by_digit = digits.labels.argsort(stable=True)
    counts = digits.labels.bincount(minlength=len(DIGITS))
    starts = counts.cumsum(0) - counts
    while True:
        places = (torch.rand(len(pairs), generator=generator) * counts[wanted]).long()
        images = augment(digits.images[by_digit[starts[wanted] + places]], generator)
        yield {"pixels": tint(images, colours, jitter=0.15, generator=generator), "pairs": pairs}


def train_by_captions(
    matcher: CaptionMatcher,
    digits: Digits,
    *,
    steps: int,
    seed: int,
    on_step: Callable[[StepReport], None] | None = None,
) -> None:
    """Train a tower on augmented digits and their captions, in the colours that are not held out, then freeze it.

    Args:
        matcher: The tower with its text tower; changed in place.
        digits: Training digits, each of them at least once.
        steps: Updates.
        seed: Decides batches and augmentation.
        on_step: Called after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    loss = partial(two_towers_loss, label_smoothing=0.1)
    train(
        TrainConfig(
            model=matcher,
            objectives=[Objective(name="captions", batches=_batches(digits, generator=generator), loss=loss)],
            steps=steps,
            lr=3e-3,
            schedule=warmup_hold_decay(warmup=30, steps=steps, hold=0.3, floor=0.0),
            weight_decay=1e-2,
            on_step=on_step,
        )
    )
    matcher.eval().requires_grad_(False)
