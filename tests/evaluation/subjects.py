"""Models to be measured: tiny, with drawn weights, and a tokenizer of letters."""

from collections.abc import Sequence

from flamingo_blocks import Flamingo
from flamingo_blocks.models import FlamingoProcessor
from tests.flamingos import END_OF_CHUNK, NEW_TAG, VOCAB, make_flamingo

FIRST = 3  # ids below are begin, end and pad


class Letters:
    """A token a letter; different letters may share one, which no test of a random model minds."""

    def encode(self, text: str) -> list[int]:
        return [FIRST + ord(letter) % (VOCAB - 1 - FIRST) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + token - FIRST) for token in ids)


def make_subject(name: str = "llama", **options: object) -> tuple[Flamingo, FlamingoProcessor]:
    """A model in float64, and the processor that belongs to it."""
    flamingo = make_flamingo(name, **options)
    tower = flamingo.vision
    processor = FlamingoProcessor(
        tokenizer=Letters(),
        preprocess=lambda image: tower.preprocess(image).double(),
        media_token_id=NEW_TAG,
        end_token_id=END_OF_CHUNK,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return flamingo, processor
