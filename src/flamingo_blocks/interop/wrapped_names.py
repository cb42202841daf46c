"""Names as they were before data-parallel, sharding, checkpointing and compiling wrappers were put around modules."""

_ANYWHERE = frozenset({"_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_orig_mod"})
_IN_FRONT = frozenset({"module"})  # inside a name it may be a model's own


def plain_name(name: str) -> str:
    """A tensor's name without the segments that wrappers add.

    Args:
        name: The name in a checkpoint.

    Returns:
        The name in the model itself.

    Example:
        >>> plain_name("module.lang_encoder._fsdp_wrapped_module.layers.0.weight")
        'lang_encoder.layers.0.weight'
    """
    segments = [segment for segment in name.split(".") if segment not in _ANYWHERE]
    while len(segments) > 1 and segments[0] in _IN_FRONT:
        segments = segments[1:]
    return ".".join(segments)
