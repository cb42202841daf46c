"""A language model that counts new tokens among its own while it generates."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from flamingo_blocks.lm.text_config import text_config

_LOCK = Lock()
# By the config's id while it is held: the size it had, and the number of new tokens of each call that goes on.
_WIDENED: dict[int, tuple[int, list[int]]] = {}


@contextmanager
def wider_vocabulary(lm: Any, num_new_tokens: int) -> Iterator[None]:
    """Count new tokens among a model's own: assisted decoding, and beams before transformers 5.1, rely on it.

    Calls may lie inside one another and run at once, and models may share a config: new tokens are counted once.

    Args:
        lm: The model. One without a config of transformers is left alone.
        num_new_tokens: How many more it predicts.
    """
    config = text_config(lm)
    if not hasattr(config, "get_text_config") or not num_new_tokens:
        yield
        return
    with _LOCK:
        own_size, calls = _WIDENED.setdefault(id(config), (config.vocab_size, []))
        calls.append(num_new_tokens)
        config.vocab_size = own_size + max(calls)
    try:
        yield
    finally:
        with _LOCK:
            calls.remove(num_new_tokens)
            config.vocab_size = own_size + max(calls, default=0)
            if not calls:
                del _WIDENED[id(config)]
