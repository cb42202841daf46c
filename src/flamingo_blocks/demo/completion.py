"""Write the continuation of a prompt with images, by a model that the demo saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.demo.errors import DemoError
from flamingo_blocks.demo.words import END_OF_CHUNK, IMAGE, START, Vocabulary
from flamingo_blocks.models import Flamingo
from flamingo_blocks.vision import VisionTower

_VOCABULARY_FILE = "vocabulary.json"


def save_demo_model(flamingo: Flamingo, vocabulary: Vocabulary, folder: Path) -> None:
    """Write the whole model, frozen parts included, and its vocabulary.

    Args:
        flamingo: A model of the demo.
        vocabulary: Its words.
        folder: Where to, made if need be.

    Example:
        >>> from flamingo_blocks.demo.example import untrained_model
        >>> flamingo, vocabulary = untrained_model()
        >>> save_demo_model(flamingo, vocabulary, Path("model"))
        >>> sorted(file.name for file in Path("model").iterdir())
        ['flamingo_config.json', 'frozen.safetensors', 'model.safetensors', 'vocabulary.json']
    """
    flamingo.save_pretrained(folder, frozen="include")
    vocabulary.save(folder / _VOCABULARY_FILE)


def is_demo_model(folder: Path) -> bool:
    """Whether a folder holds what `save_demo_model` wrote."""
    return (folder / _VOCABULARY_FILE).is_file()


def load_demo_model(folder: Path) -> tuple[Flamingo, Vocabulary]:
    """Read what `save_demo_model` wrote.

    Args:
        folder: Where it wrote.

    Returns:
        The model, in eval mode and on the CPU, and its words.

    Raises:
        DemoError: If the folder holds no model of the demo.

    Example:
        >>> from flamingo_blocks.demo.example import untrained_model
        >>> flamingo, vocabulary = untrained_model()
        >>> save_demo_model(flamingo, vocabulary, Path("model"))
        >>> loaded, words = load_demo_model(Path("model"))
        >>> words == vocabulary, loaded.training
        (True, False)
    """
    if not is_demo_model(folder):
        raise DemoError(
            f"{folder} holds no {_VOCABULARY_FILE}, so it is no model of the demo; "
            "`flamingo-blocks demo --out runs/demo` writes one to runs/demo/model"
        )
    return Flamingo.from_pretrained(folder).eval(), Vocabulary.load(folder / _VOCABULARY_FILE)


@torch.no_grad()
def complete(
    flamingo: Flamingo, vocabulary: Vocabulary, *, prompt: str, images: Sequence[Any], max_new_tokens: int = 8
) -> str:
    """Continue a prompt, word by word, up to the end of its chunk.

    Args:
        flamingo: A model of the demo, on any device.
        vocabulary: Its words.
        prompt: Words of the vocabulary, with an `<image>` for each image.
        images: Anything the tower's `preprocess` takes: files, PIL images, arrays.
        max_new_tokens: Most words to write.

    Returns:
        The words written, `<EOC>` included if it came.

    Raises:
        DemoError: If the number of tags is not that of images, a word is unknown, or an image cannot be read.

    Example:
        >>> from flamingo_blocks.demo.example import untrained_model
        >>> flamingo, vocabulary = untrained_model()
        >>> picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
        >>> written = complete(flamingo, vocabulary, prompt="<image> this is a", images=[picture], max_new_tokens=2)
        >>> len(written.split())  # any words: nothing is trained
        2
    """
    device = next(flamingo.parameters()).device
    ids = torch.tensor([encode_prompt(vocabulary, prompt, num_images=len(images))], device=device)
    assert flamingo.vision is not None
    frames = [_read(flamingo.vision, image) for image in images]
    pixels = torch.stack(frames)[:, None].to(device) if frames else None
    written = flamingo.generate(
        ids, pixels=pixels, max_new_tokens=max_new_tokens, eos_token_id=vocabulary.ids[END_OF_CHUNK]
    )
    return vocabulary.decode(written[0, ids.shape[1] :].tolist())


def encode_prompt(vocabulary: Vocabulary, prompt: str, *, num_images: int) -> list[int]:
    """Token ids of a prompt, the start token in front.

    Raises:
        DemoError: If the number of tags is not that of images, or a word is unknown.
    """
    for tag in (IMAGE, END_OF_CHUNK):
        prompt = prompt.replace(tag, f" {tag} ")
    words = prompt.split()
    if words.count(IMAGE) != num_images:
        raise DemoError(
            f"the prompt has {words.count(IMAGE)} {IMAGE} tags, but {num_images} images were given; "
            "give one image for each tag, in their order"
        )
    try:
        return vocabulary.encode([START, *words] if words[:1] != [START] else words)
    except ValueError as error:
        raise DemoError(f"prompt: {error}") from error


def _read(tower: VisionTower, image: Any) -> Float[Tensor, "3 height width"]:
    path = Path(image) if isinstance(image, str | Path) else None
    if path is not None and not path.is_file():
        raise DemoError(f"image: there is no file {path}")
    try:
        return tower.preprocess(image if path is None else path)
    except (OSError, ValueError) as error:
        raise DemoError(f"image: {path or type(image).__name__} cannot be read as an image: {error}") from error
