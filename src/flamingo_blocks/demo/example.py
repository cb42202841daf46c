"""A model of the demo before any training, for the examples of its functions."""

from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.model import build_flamingo
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import Vocabulary, demo_vocabulary
from flamingo_blocks.models import Flamingo


def untrained_model() -> tuple[Flamingo, Vocabulary]:
    """The demo's Flamingo with the weights it begins with, and its words.

    Example:
        >>> flamingo, vocabulary = untrained_model()
        >>> vocabulary.encode("<image>") == [flamingo.media_token_id]
        True
    """
    vocabulary = demo_vocabulary()
    return build_flamingo(DigitTower(), TinyDecoder(vocab_size=len(vocabulary.words)), vocabulary), vocabulary
