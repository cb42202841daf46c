"""The parts that the blocks are put between: tower and language model, each trained on its own, and the images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from flamingo_blocks.demo.captioned_tower import CaptionMatcher, train_by_captions
from flamingo_blocks.demo.errors import DemoError
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import SEEN_PAIRS, UNSEEN_PAIRS, Digits, augment, load_digits_images, tint_with_pairs
from flamingo_blocks.demo.language_model import TinyDecoder, text_recall, train_language_model
from flamingo_blocks.demo.progress import Stopwatch
from flamingo_blocks.demo.tower import DigitReader, DigitTower, train_tower
from flamingo_blocks.demo.words import Vocabulary, demo_vocabulary

TowerTraining = Literal["labels", "contrastive"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the blocks are put between, and the images: all that ablations share with the main run."""

    vocabulary: Vocabulary
    tower: DigitTower
    lm: TinyDecoder
    lm_recall: float
    training: ImageBank
    test: ImageBank
    test_digits: Digits
    tower_accuracy: dict[str, float]


def prepare_parts(
    watch: Stopwatch,
    *,
    seed: int,
    tower_steps: int,
    lm_steps: int,
    min_recall: float = 0.0,
    tower_training: TowerTraining = "labels",
) -> Parts:
    """Train the language model and the tower, each on its own, and compute the features of all images.

    Args:
        watch: Times the phases and reports their progress.
        seed: Decides everything that is drawn.
        tower_steps: Updates of the tower.
        lm_steps: Updates of the language model.
        min_recall: Recall on text that the language model needs.
        tower_training: What the tower is trained on: the digit and colour of each picture, or pictures and captions.

    Raises:
        DemoError: If the language model's recall stays below `min_recall`.
    """
    vocabulary = demo_vocabulary()
    with seeded(seed):
        reader, lm = DigitReader(DigitTower()), TinyDecoder(vocab_size=len(vocabulary.words))
    with watch.phase("language model", lm_steps) as advance:
        train_language_model(lm, vocabulary, steps=lm_steps, seed=seed, on_step=advance)
    recall = text_recall(lm, vocabulary, seed=seed + 1)
    if not recall >= min_recall:
        raise DemoError(
            f"the language model names {recall:.2f} of the things its text has named, wanted {min_recall:.2f} "
            f"after {lm_steps} steps: without that, naming images cannot work. Train it longer"
        )
    training, test = load_digits_images(seed=seed)
    with watch.phase("vision encoder", tower_steps) as advance:
        trained: DigitReader | CaptionMatcher = reader
        if tower_training == "labels":
            train_tower(reader, training, steps=tower_steps, seed=seed, on_step=advance)
        else:
            with seeded(seed + 1):
                trained = CaptionMatcher(reader.tower, vocabulary)
            train_by_captions(trained, training, steps=tower_steps, seed=seed, on_step=advance)
        shown = tint_with_pairs(test, SEEN_PAIRS), tint_with_pairs(test, UNSEEN_PAIRS)
        accuracy = {name: trained.accuracy(*images) for name, images in zip(("seen", "unseen"), shown, strict=True)}
        training_bank, test_bank = _banks(reader.tower, training, test, seed=seed)
    return Parts(
        vocabulary=vocabulary,
        tower=reader.tower,
        lm=lm,
        lm_recall=recall,
        training=training_bank,
        test=test_bank,
        test_digits=test,
        tower_accuracy=accuracy,
    )


@torch.no_grad()
def _banks(tower: DigitTower, training: Digits, test: Digits, *, seed: int) -> tuple[ImageBank, ImageBank]:
    """Features of all images, computed once since the tower is frozen: training images also once augmented."""
    augmented = augment(training.images, torch.Generator().manual_seed(seed))
    both = Digits(torch.cat([training.images, augmented]), torch.cat([training.labels, training.labels]))
    pixels, pairs = tint_with_pairs(both, SEEN_PAIRS)
    tower.standardise(pixels)
    return ImageBank(features=tower(pixels).tokens, pairs=pairs), bank_of_test(tower, test)


@torch.no_grad()
def bank_of_test(tower: DigitTower, test: Digits) -> ImageBank:
    """Features of test images: of the pairs that training shows, and of those that it never shows.

    Args:
        tower: The trained tower.
        test: The test digits of the run that trained it.
    """
    pixels, pairs = tint_with_pairs(test, SEEN_PAIRS + UNSEEN_PAIRS)
    return ImageBank(features=tower(pixels).tokens, pairs=pairs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside follow the seed; torch's global source of random numbers is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
