"""The config that tells of a model's text: its width, its layers, its vocabulary."""

from typing import Any

from torch import nn


def text_config(lm: nn.Module) -> Any:
    """The config of a language model, or of the text part where a model of transformers has one for each part.

    Args:
        lm: Any decoder language model.

    Returns:
        What the model has under `config`, `None` where it has nothing.

    Example:
        >>> text_config(nn.Linear(2, 2)) is None
        True
    """
    config: Any = getattr(lm, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
