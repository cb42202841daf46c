"""How many tokens the cache of a language model holds when a call of it begins."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flamingo_blocks.ops.media_layout import MediaLayout

_NAMES = ("past_key_values", "cache_params")
_ADVICE = "tell it: attachment.media(state, past=number of tokens in the cache)"


class CountedCaches:
    """Asks a cache for its length; where it does not know, as state-space models' do not, counts what went into it.

    Such a cache takes no step back, so counting holds from the call on that gave it the whole text.

    Example:
        >>> import torch
        >>> caches, cache, tokens = CountedCaches(), object(), [torch.zeros(1, n, dtype=torch.long) for n in (3, 1)]
        >>> layout = MediaLayout.from_tokens(torch.zeros(1, 3, dtype=torch.bool))
        >>> [caches.past((ids,), {"cache_params": cache}, layout=layout) for ids in tokens]
        [0, 3]
    """

    def __init__(self) -> None:
        self._counts: list[tuple[Any, int]] = []  # by identity; the cache is held, so that no other takes its place

    def past(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, layout: MediaLayout | None, whole: bool = False
    ) -> int:
        """The tokens that the cache of a call holds, 0 without one.

        Args:
            args: What the decoder is called with.
            kwargs: Likewise.
            layout: That of the whole text; `None` where no block will ask.
            whole: Whether a call without a cache must hold the whole text.

        Returns:
            The number of tokens before those of this call.

        Raises:
            RuntimeError: If it cannot be told.
        """
        if layout is None:
            return 0
        cache, new = cache_of(args, kwargs), _num_text(args, kwargs)
        length = 0 if cache is None else _asked(cache)
        if length is None:
            length = self._count(cache, new, layout)
        elif cache is None and whole and new is not None and new < layout.num_text:
            raise RuntimeError(
                f"the language model was called with {new} of {layout.num_text} tokens and no cache that tells what it "
                f"holds; {_ADVICE}, or run it without a cache: use_cache=False"
            )
        return length

    def _count(self, cache: Any, new: int | None, layout: MediaLayout) -> int:
        known = next((count for seen, count in self._counts if seen is cache), None)
        if new is None or (known is None and new < layout.num_text):
            raise RuntimeError(
                f"the language model was called with {new} of {layout.num_text} tokens, and its "
                f"{type(cache).__name__} does not tell what it holds; {_ADVICE}"
            )
        count = known or 0
        self._counts = [(seen, n) for seen, n in self._counts if seen is not cache] + [(cache, count + new)]
        return count


def cache_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What tells its length, wherever it stands; else what stands under a name of caches; `None` without either."""
    named = (kwargs[name] for name in _NAMES if kwargs.get(name) is not None)
    return next((value for value in (*kwargs.values(), *args) if hasattr(value, "get_seq_length")), next(named, None))


def _asked(cache: Any) -> int | None:
    if not hasattr(cache, "get_seq_length"):
        return None
    try:
        # A static cache's length is a live tensor that grows while the layers run: take the number now.
        return int(cache.get_seq_length())
    except ValueError:  # of transformers' own, where no layer of the cache counts
        return None


def _num_text(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Tokens of a call, off its ids [batch text] or embeddings [batch text dim]."""
    named = [kwargs.get(name) for name in ("input_ids", "inputs_embeds")]
    tokens = next((value for value in (*named, *args) if isinstance(value, Tensor) and value.ndim >= 2), None)
    return None if tokens is None else tokens.shape[1]
