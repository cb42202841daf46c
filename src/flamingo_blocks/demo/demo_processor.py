"""The demo's words and images as what the rest of the library takes: a processor."""

from collections.abc import Iterator, Mapping

from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.naming_task import image_name
from flamingo_blocks.demo.words import END_OF_CHUNK, IMAGE, START, Vocabulary
from flamingo_blocks.models import Flamingo, FlamingoProcessor


class BankFeatures(Mapping[str, Tensor]):
    """The features of a bank by the names that its images have in tasks.

    Args:
        bank: The images.
    """

    def __init__(self, bank: ImageBank) -> None:
        self._bank = bank
        self._numbers = {image_name(number): number for number in range(len(bank.pairs))}

    def __getitem__(self, name: str) -> Float[Tensor, "1 patches vision_dim"]:
        return self._bank.features[self._numbers[name]][None]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def demo_processor(vocabulary: Vocabulary, flamingo: Flamingo, *, bank: ImageBank | None = None) -> FlamingoProcessor:
    """A processor that writes prompts as the demo trains on them.

    Args:
        vocabulary: Words and their ids.
        flamingo: The model, whose tower reads images.
        bank: Images with features that were computed before, named by `url`; none is read then.

    Example:
        >>> import torch
        >>> from flamingo_blocks.demo.example import untrained_model
        >>> flamingo, vocabulary = untrained_model()
        >>> processor = demo_processor(vocabulary, flamingo)
        >>> batch = processor(["<image>this is a kulm<EOC><image>this is a"], [[torch.zeros(3, 8, 8)] * 2])
        >>> vocabulary.decode(batch.input_ids[0].tolist())
        '<bos> <image> this is a kulm <EOC> <image> this is a'
    """
    assert flamingo.vision is not None
    return FlamingoProcessor(
        tokenizer=vocabulary,
        preprocess=flamingo.vision.preprocess if bank is None else None,
        features=None if bank is None else BankFeatures(bank),
        media_token=IMAGE,
        end_token=END_OF_CHUNK,
        media_token_id=vocabulary.ids[IMAGE],
        end_token_id=vocabulary.ids[END_OF_CHUNK],
        pad_token_id=vocabulary.ids[START],
        bos_token_id=vocabulary.ids[START],
        eos_token_id=None,
        scope=flamingo.scope,
    )
