"""How many tokens a language model reads at once."""

from torch import nn

from flamingo_blocks.lm.text_config import text_config

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")


def context_length(lm: nn.Module) -> int | None:
    """The longest text that a language model reads, as its config tells; None where it does not.

    Args:
        lm: Any decoder language model.

    Example:
        >>> context_length(nn.Linear(2, 2)) is None
        True
    """
    config = text_config(lm)
    told = config if isinstance(config, dict) else {name: getattr(config, name, None) for name in _NAMES}
    return next((found for name in _NAMES if isinstance(found := told.get(name), int) and found > 0), None)
