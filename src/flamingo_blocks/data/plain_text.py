"""Tokenizers of transformers, asked for nothing but the ids of a text."""

from collections.abc import Sequence
from typing import Any

from flamingo_blocks.data.tokenize import TextTokenizer


def plain_tokenizer(tokenizer: Any, *, skip_special_tokens: bool = False) -> TextTokenizer:
    """A tokenizer that adds nothing to a text.

    Args:
        tokenizer: One of transformers, or an object with `encode(text)` and `decode(ids)` that add nothing, which is
            given back as it is.
        skip_special_tokens: Whether decoding leaves out the special tokens that a tokenizer of transformers knows.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(tokenizer, TextTokenizer) or isinstance(tokenizer, str | bytes | type):
        told = f"tokenizer is a {type(tokenizer).__name__}, wanted one of transformers, or an object with encode(text) "
        raise ValueError(f"{told}and decode(ids) that add nothing")  # noqa: TRY004
    if not is_transformers(tokenizer):
        return tokenizer
    return _PlainText(tokenizer, skip_special_tokens=skip_special_tokens)


def is_transformers(tokenizer: Any) -> bool:
    """Whether a tokenizer has the methods of those of transformers."""
    return hasattr(tokenizer, "convert_tokens_to_ids")


class _PlainText:
    """A transformers tokenizer that adds nothing to a text."""

    def __init__(self, tokenizer: Any, *, skip_special_tokens: bool) -> None:
        self.tokenizer = tokenizer
        self.skip_special_tokens = skip_special_tokens

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=self.skip_special_tokens))
