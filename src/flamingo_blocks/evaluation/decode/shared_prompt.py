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
    """

    document: InterleavedDocument
    ids: tuple[int, ...] = ()
    num_media: int = 0
    state: PromptState | None = None
