"""Models to be measured: tiny, with drawn weights, and a tokenizer of letters."""

from collections.abc import Sequence

import torch

from flamingo_blocks import Flamingo
from flamingo_blocks.models import FlamingoProcessor
from tests.flamingos import END_OF_CHUNK, NEW_TAG, SIDE, VOCAB, make_flamingo

FIRST = 3  # ids below are begin, end and pad


class Letters:
    """A token a letter; different letters may share one, which no test of a random model minds."""

    def encode(self, text: str) -> list[int]:
        return [FIRST + ord(letter) % (VOCAB - 1 - FIRST) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + token - FIRST) for token in ids)


def preprocess(image: object) -> torch.Tensor:
    """Any picture, array or file as eight by eight pixels."""
    if not isinstance(image, torch.Tensor):
        import numpy as np
        from PIL import Image

        opened = image if isinstance(image, Image.Image) else None
        if opened is None:
            opened = Image.open(image) if not isinstance(image, np.ndarray) else Image.fromarray(image)
        image = torch.from_numpy(np.array(opened.convert("RGB").resize((SIDE, SIDE)))).permute(2, 0, 1)
    return image.double() / 255 if not image.is_floating_point() else image


def make_subject(name: str = "llama", **options: object) -> tuple[Flamingo, FlamingoProcessor]:
    """A model in float64, and the processor that belongs to it."""
    flamingo = make_flamingo(name, **options)
    processor = FlamingoProcessor(
        tokenizer=Letters(),
        preprocess=preprocess,
        media_token_id=NEW_TAG,
        end_token_id=END_OF_CHUNK,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return flamingo, processor
