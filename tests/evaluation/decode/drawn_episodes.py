"""Episodes for the tests of decoding: drawn images, letters as tokens, shots and queries by number."""

import pytest
import torch

from flamingo_blocks.data import ImageSegment, InterleavedDocument
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.evaluation.decode import Decoder, MediaPool
from flamingo_blocks.models import FlamingoProcessor
from tests.flamingos import END_OF_CHUNK, KNOWN_TAG, NEW_TAG, make_flamingo
from tests.language_models import make_language_model

LETTERS = KNOWN_TAG - 3


class Letters:
    """A letter a token; two spaces side by side, and a space with the letter behind it, are one."""

    def __init__(self, *, merges=False):
        self.merges = merges

    def encode(self, text):
        pieces, place = [], 0
        while place < len(text):
            width = 2 if self.merges and text[place] == " " and place + 1 < len(text) else 1
            pieces.append(text[place : place + width])
            place += width
        return [3 + sum(ord(letter) * (7 + 4 * (len(piece) - 1)) for letter in piece) % LETTERS for piece in pieces]

    def decode(self, ids):
        return "".join(chr(97 + token) for token in ids)


def processor_of(*, merges=False, **options):
    """A processor of letters for the models of the tests."""
    ids = dict(media_token_id=NEW_TAG, end_token_id=END_OF_CHUNK, pad_token_id=0)
    return FlamingoProcessor(tokenizer=Letters(merges=merges), preprocess=torch.Tensor.double, **(ids | options))


def image(number):
    """The image of that number; the object is another one each time."""
    noise = torch.Generator().manual_seed(number)
    return ImageSegment(url=f"{number}.png", data=torch.rand(3, 8, 8, generator=noise))


def shot(number, *, words=2):
    """A shot of some letters about an image."""
    text = "".join(chr(97 + (number * 5 + place * 3) % 26) for place in range(words))
    return InterleavedDocument.from_parts([image(number), f"O:{text}<EOC>"])


def query(number):
    """A query about an image; those of different numbers have different lengths."""
    return InterleavedDocument.from_parts([image(50 + number), f"{'xyz'[: number % 4]}O:"])


def after(shots, asked):
    """Shots and query as one document."""
    return InterleavedDocument(tuple(part for one in (*shots, asked) for part in one.segments))


def decoder_of(name, *, lm=None, flamingo=None, processor=None, pool=None, **options):
    """A decoder of the model of that name, and of a pool that reads drawn images."""
    if flamingo is None:
        flamingo = make_flamingo(name, lm=make_language_model(name) if lm is None else lm)
    processor = processor_of() if processor is None else processor
    if pool is None:
        pool = MediaPool(flamingo, ItemReader(preprocess=processor.preprocess))
    arguments = dict(num_beams=1, max_new_tokens=4) | options
    return Decoder(flamingo, processor, pool, **arguments)


def begun(decoder, shots):
    """A prompt of shots, each run behind those before it."""
    prompt = None
    for one in shots:
        prompt = decoder.begin(one, before=prompt)
    return prompt


def numbers(found):
    """Numbers of tokens and log-probabilities of a list of scores."""
    return [(one.num_tokens, one.log_probs) for one in found]


def nearly(wanted, bound=1e-4):
    """What the numbers of scores equal that are the same within a bound."""
    return [(one.num_tokens, pytest.approx(one.log_probs, abs=bound)) for one in wanted]


def alike(found, wanted, bound=1e-4):
    """Two lists of scores are the same within a bound."""
    assert numbers(found) == nearly(wanted, bound)
