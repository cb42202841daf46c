"""A prompt of shots that many queries follow."""

from dataclasses import dataclass

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.models.prompt import PromptState


@dataclass(frozen=True, eq=False)
class SharedPrompt:
    """Shots that were run once, for queries and for longer prompts to go on from; made by `Decoder.begin`.

    Args:
        document: The shots.
        ids: The tokens that were run: those that no text behind can change. The rest of the document is run with what
            follows.
        num_media: Images and clips among them.
        state: What the model keeps of them; None where prompts are not shared, and each query runs them itself.

    Example:
        >>> import torch
        >>> from flamingo_blocks.data import ImageSegment
        >>> from flamingo_blocks.evaluation.decode import Decoder
        >>> from flamingo_blocks.models import FlamingoProcessor, build_tiny_flamingo
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [ord(letter) % 30 for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(chr(96 + token) for token in ids)
        >>> processor = FlamingoProcessor(tokenizer=Letters(), media_token_id=32, end_token_id=33, pad_token_id=0)
        >>> decoder = Decoder(build_tiny_flamingo(), processor, num_beams=1, max_new_tokens=3)
        >>> cat = ImageSegment(url="cat.png", data=torch.zeros(3, 8, 8))
        >>> prompt = decoder.begin(InterleavedDocument.from_parts([cat, "Output: a cat<EOC>"]))
        >>> prompt.num_media, len(prompt.ids), prompt.state.num_rows
        (1, 15, 1)
    """

    document: InterleavedDocument
    ids: tuple[int, ...] = ()
    num_media: int = 0
    state: PromptState | None = None
