"""Prompts for models of transformers, and their candidates scored by hand."""

from typing import Any

from PIL import Image
from torch import nn

from flamingo_blocks.data import ImageSegment, InterleavedDocument, TextSegment


def picture(value: int) -> ImageSegment:
    """A picture of one colour."""
    return ImageSegment(url=f"{value}.png", data=Image.new("RGB", (12, 9), (value, 255 - value, value // 2)))


def prompt_of(words: list[str], query: str) -> InterleavedDocument:
    """A shot for each word, and a query."""
    parts = [part for number, word in enumerate(words) for part in (picture(40 * number), f"Output: {word}\n")]
    return InterleavedDocument.from_parts([*parts, picture(200), query])


def as_text(prompt: InterleavedDocument, image: str = "<image>") -> str:
    """A prompt with a placeholder for each picture."""
    return "".join(part.text if isinstance(part, TextSegment) else image for part in prompt.segments)


def by_hand(
    model: nn.Module, processor: Any, prompt: InterleavedDocument, candidate: str, *, image: str = "<image>"
) -> tuple[float, int]:
    """The log-probability of a candidate, from logits of the whole text, and its number of tokens."""
    text, images = as_text(prompt, image), [[part.data for part in prompt.media]]
    ids, logits = [], None
    for each in (text, text + candidate):
        inputs = processor(text=[each], images=images, return_tensors="pt")
        ids.append(inputs["input_ids"][0])
        logits = model(**inputs).logits[0].double().log_softmax(-1)
    kept = len(ids[0])  # a token is a byte here, so no border moves
    return sum(float(logits[place - 1, ids[1][place]]) for place in range(kept, len(ids[1]))), len(ids[1]) - kept
