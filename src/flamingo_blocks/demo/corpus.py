"""Text for the demo's language model: it learns to bind names to words, and no image goes with it."""

import torch
from jaxtyping import Int
from torch import Tensor

from flamingo_blocks.demo.words import COLOURS, DIGITS, NAMES, START, THINGS, Vocabulary

KEYS = THINGS + DIGITS + COLOURS
_MOST_KEYS = 6


def draw_distinct(rows: int, choices: int, count: int, generator: torch.Generator) -> Int[Tensor, "rows count"]:
    """For each row, `count` different numbers below `choices`, in random order."""
    return torch.rand(rows, choices, generator=generator).argsort(dim=1)[:, :count]


def binding_documents(
    vocabulary: Vocabulary, *, batch: int, length: int, generator: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Documents that name two to six things, again and again: `fox this is a dax . owl this is a wug . fox this ...`.

    Names are drawn anew in each document, so that only reading back in the document tells them.

    Args:
        vocabulary: Words and their ids.
        batch: Number of documents.
        length: Tokens of each, the start token included.
        generator: Where everything is drawn from.

    Returns:
        Token ids.
    """
    template = torch.tensor(vocabulary.encode("fox this is a dax ."))
    sentences = -(-length // len(template))
    num_keys = torch.randint(2, _MOST_KEYS + 1, (batch, 1), generator=generator)
    keys = torch.tensor(vocabulary.encode(KEYS))[draw_distinct(batch, len(KEYS), _MOST_KEYS, generator)]
    names = torch.tensor(vocabulary.encode(NAMES))[draw_distinct(batch, len(NAMES), _MOST_KEYS, generator)]
    chosen = (torch.rand(batch, sentences, generator=generator) * num_keys).long()
    ids = template.repeat(batch, sentences, 1)
    ids[..., 0], ids[..., 4] = keys.gather(1, chosen), names.gather(1, chosen)
    return _start(vocabulary, ids.flatten(1), length)


def plain_documents(
    vocabulary: Vocabulary, *, batch: int, length: int, generator: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Documents of plain sentences: `an image of a red seven .`, `two comes after one .`, `here is the digit two .`.

    The sentence about images is the wording that captions will have; no image goes with it.

    Args:
        vocabulary: Words and their ids.
        batch: Number of documents.
        length: Tokens of each, the start token included.
        generator: Where everything is drawn from.

    Returns:
        Token ids.
    """

    def pick(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    def sentence() -> str:
        digit, colour = pick(len(DIGITS) - 1), COLOURS[pick(len(COLOURS))]
        kinds = (
            f"an image of a {colour} {DIGITS[pick(len(DIGITS))]} .",
            f"an image of a {colour} {THINGS[pick(len(THINGS))]} .",
            f"{DIGITS[digit + 1]} comes after {DIGITS[digit]} .",
            f"here is the digit {DIGITS[pick(len(DIGITS))]} .",
        )
        return kinds[pick(len(kinds))]

    shortest = 5
    rows = [vocabulary.encode(" ".join(sentence() for _ in range(-(-length // shortest)))) for _ in range(batch)]
    return torch.stack([_start(vocabulary, torch.tensor([row]), length)[0] for row in rows])


def _start(vocabulary: Vocabulary, ids: Int[Tensor, "batch longer"], length: int) -> Int[Tensor, "batch length"]:
    start = torch.full((len(ids), 1), vocabulary.ids[START])
    return torch.cat([start, ids], dim=1)[:, :length]


def text_batch(
    vocabulary: Vocabulary, *, batch: int, length: int, generator: torch.Generator, binding_share: float = 0.8
) -> Int[Tensor, "batch length"]:
    """A batch of documents, most of them binding names.

    Args:
        vocabulary: Words and their ids.
        batch: Number of documents.
        length: Tokens of each, the start token included.
        generator: Where everything is drawn from.
        binding_share: Share of documents that bind names.

    Returns:
        Token ids.
    """
    binding = int((torch.rand(batch, generator=generator) < binding_share).sum())
    parts = [binding_documents(vocabulary, batch=binding, length=length, generator=generator)]
    if binding < batch:
        parts.append(plain_documents(vocabulary, batch=batch - binding, length=length, generator=generator))
    return torch.cat(parts)
