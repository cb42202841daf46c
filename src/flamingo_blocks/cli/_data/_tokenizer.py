"""A tokenizer of transformers, with the ids of tags that it may not have."""

from flamingo_blocks._optional import require
from flamingo_blocks.data import SpecialTokens, TextTokenizer
from flamingo_blocks.data.plain_text import plain_tokenizer
from flamingo_blocks.models import FlamingoProcessor


def load_tokenizer(name: str, *, media_token: str, end_token: str) -> tuple[TextTokenizer, SpecialTokens]:
    """Load a tokenizer, and find the ids of the tags as `FlamingoProcessor` does.

    Args:
        name: Folder, or name on the hub.
        media_token: String of the media tag; it gets the first free id if the tokenizer does not know it.
        end_token: String of the end of a chunk, likewise.
    """
    transformers = require("transformers", used_by="flamingo-blocks data show --tokenizer", extra="hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    known, free = tokenizer.get_vocab(), len(tokenizer)
    processor = FlamingoProcessor(
        tokenizer=tokenizer, media_token=media_token, end_token=end_token, pad_token_id=0,
        media_token_id=known.get(media_token, free), end_token_id=known.get(end_token, free + 1),
    )  # fmt: skip
    return plain_tokenizer(tokenizer), processor.special
