"""A Flamingo as a run asks it: prompts of shots run once, images encoded once."""

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.evaluation.answering.evaluated_model import AnswerSettings
from flamingo_blocks.evaluation.answering.hash_of_weights import hash_of_weights
from flamingo_blocks.evaluation.decode import Decoder, MediaPool, cut_frames
from flamingo_blocks.models import Flamingo, FlamingoProcessor
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.nn import closed_gates
from flamingo_blocks.vision import VisionTower


class FlamingoModel:
    """A Flamingo with what makes its prompts.

    Args:
        flamingo: The model.
        processor: Tokenizer, special tokens and `preprocess` that belong to it.
        media_bytes: What encoded images may take; those that do not fit are encoded again when they are shown again.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [3 + ord(letter) % 29 for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(chr(96 + each) for each in ids)
        >>> processor = FlamingoProcessor(tokenizer=Letters(), media_token_id=32, end_token_id=33, pad_token_id=0)
        >>> FlamingoModel(build_tiny_flamingo(), processor).describe()["vision"]
        'CallableTower'
    """

    def __init__(self, flamingo: Flamingo, processor: FlamingoProcessor, *, media_bytes: int = 2**30) -> None:
        self.flamingo, self.processor = flamingo, processor
        self.pool = MediaPool(flamingo, _item_reader(processor), memory_bytes=media_bytes)

    @property
    def tower(self) -> VisionTower | None:
        """The tower of the model."""
        return self.flamingo.vision

    @property
    def searches(self) -> bool:
        """Whether the language model has a `generate` of its own."""
        return callable(getattr(self.flamingo.lm, "generate", None))

    @property
    def images_encoded(self) -> int:
        """How many images and clips were encoded so far; those that were encoded again count again."""
        return self.pool.encoded

    def describe(self) -> dict[str, Any]:
        """Its parts, the number of its weights, and hashes of weights and processor."""
        flamingo, processor = self.flamingo, self.processor
        name = type(flamingo.lm).__name__
        device = next(flamingo.parameters()).device
        return {
            "name": name,
            "language_model": name,
            "vision": None if flamingo.vision is None else type(flamingo.vision).__name__,
            "tokenizer": type(processor.tokenizer).__name__,
            "processor": _hash_of_processor(processor),
            "parameters": sum(weight.numel() for weight in flamingo.parameters()),
            "weights": hash_of_weights(flamingo),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        }

    def at_rest(self) -> AbstractContextManager[None]:
        """In eval mode; each part is put back into its own mode."""
        return eval_mode(self.flamingo)

    def closed_gates(self) -> AbstractContextManager[None]:
        """With every gate at zero."""
        return closed_gates(self.flamingo)

    def unreadable(self, segments: Iterable[MediaSegment]) -> dict[str, str]:
        """Which images and clips cannot be read; the others are encoded.

        Args:
            segments: Images and clips.
        """
        return self.pool.unreadable(segments)

    def blank(self, segment: MediaSegment) -> MediaSegment:
        """An item of the same shape in the mean colour.

        Args:
            segment: An image or clip.
        """
        return self.pool.blank(segment)

    def answerer(self, settings: AnswerSettings) -> Decoder:
        """A decoder that shares images with all others of this model.

        Args:
            settings: How answers are made.
        """
        return Decoder(
            self.flamingo, self.processor, self.pool, num_beams=settings.num_beams,
            length_penalty=settings.length_penalty, max_new_tokens=settings.max_new_tokens,
            terminator=settings.terminator, memory_bytes=settings.memory_bytes, max_rows=settings.max_rows,
            share=settings.share,
        )  # fmt: skip


def _item_reader(processor: FlamingoProcessor) -> ItemReader:
    """Reads images and clips as the processor of a model does."""
    if processor.features is not None:
        return ItemReader(features=processor.features)
    return ItemReader(preprocess=processor.preprocess, clip_images=cut_frames)


def _hash_of_processor(processor: FlamingoProcessor) -> str:
    """A short hash of the special ids, and of the ids of a text where the tokenizer takes any."""
    try:
        ids = list(processor.tokenizer.encode("Question: What is 1 + 2? Answer: a (red) cat."))
    except ValueError:  # a vocabulary of whole words
        ids = []
    told = f"{processor.special} {processor.pad_token_id} {processor.scope} {ids}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]
