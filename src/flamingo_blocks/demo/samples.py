"""Prompts to look at: the text a model writes, and image files to try it on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.demo.episodes import EpisodeSource, Texts, caption_ids
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import SEEN_PAIRS, UNSEEN_PAIRS, Digits, pair_of, pair_words, tint
from flamingo_blocks.demo.words import DIGITS, END_OF_CHUNK, IMAGE, NEW_NAMES, Vocabulary
from flamingo_blocks.models import Flamingo


@dataclass(frozen=True)
class Sample:
    """A prompt with its images put in words, what the model wrote, and what would be right."""

    prompt: str
    written: str
    right: str


def naming_samples(
    flamingo: Flamingo, bank: ImageBank, vocabulary: Vocabulary, *, shots: Sequence[int] = (2, 2, 4), seed: int = 0
) -> list[Sample]:
    """Name unseen pairs by new names, two of them an episode."""
    generator = torch.Generator().manual_seed(seed)
    source = EpisodeSource(bank=bank, vocabulary=vocabulary, pairs=UNSEEN_PAIRS, names=NEW_NAMES)
    drawn = [source.test(batch=1, shots=number, num_names=2, generator=generator) for number in shots]
    return [
        _write(flamingo, bank, vocabulary, episode.prompts(), right=episode.texts.input_ids[0, -2:])
        for episode in drawn
    ]


def caption_samples(
    flamingo: Flamingo, bank: ImageBank, vocabulary: Vocabulary, *, count: int = 3, seed: int = 0
) -> list[Sample]:
    """Caption test images of seen pairs."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.tensor(SEEN_PAIRS)[torch.randperm(len(SEEN_PAIRS), generator=generator)[:count]]
    captions = caption_ids(vocabulary)[pairs]
    images = bank.draw(pairs[:, None], generator)
    return [
        _write(flamingo, bank, vocabulary, Texts(caption[None, :3], image[None]), right=caption[3:])
        for caption, image in zip(captions, images, strict=True)
    ]


@torch.no_grad()
def _write(
    flamingo: Flamingo, bank: ImageBank, vocabulary: Vocabulary, prompt: Texts, *, right: Int[Tensor, " tokens"]
) -> Sample:
    ids = prompt.input_ids
    written = flamingo.generate(
        ids,
        features=bank.features[prompt.images[0]][:, None],
        max_new_tokens=8,
        eos_token_id=vocabulary.ids[END_OF_CHUNK],
    )
    seen = iter(prompt.images[0].tolist())
    words = [
        f"[{' '.join(pair_words(int(bank.pairs[next(seen)])))}]" if word == IMAGE else word
        for word in vocabulary.decode(ids[0, 1:].tolist()).split()
    ]
    return Sample(
        " ".join(words), vocabulary.decode(written[0, ids.shape[1] :].tolist()), vocabulary.decode(right.tolist())
    )


def write_sample_images(digits: Digits, folder: Path, *, magnify: int = 8) -> list[Path]:
    """Write a few tinted test digits as PNG files, so that there is something to try the model on.

    Args:
        digits: Test digits.
        folder: Made if it is not there.
        magnify: Pixels of the file for each pixel of the digit; eight show it well, and are averaged when read.

    Returns:
        The files, two images of each of three pairs that no training image showed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for pair in UNSEEN_PAIRS[::5]:
        colour, digit = pair_words(pair)
        for copy, row in enumerate((digits.labels == DIGITS.index(digit)).nonzero()[:2, 0].tolist()):
            shade = torch.tensor([pair - pair_of(DIGITS.index(digit), 0)])
            files.append(folder / f"{colour}-{digit}-{copy}.png")
            _write_png(tint(digits.images[row : row + 1], shade)[0], files[-1], magnify)
    return files


def _write_png(pixels: Float[Tensor, "3 height width"], file: Path, magnify: int) -> None:
    image = require("PIL.Image", used_by="write_sample_images", extra="demo")
    large = (pixels * 255).round().byte().repeat_interleave(magnify, 1).repeat_interleave(magnify, 2)
    height, width = large.shape[1:]
    image.frombytes("RGB", (width, height), bytes(large.permute(1, 2, 0).flatten().tolist())).save(file)
