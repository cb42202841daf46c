"""Models of transformers, loaded only where their files hold every weight: it draws those that are missing."""

from collections.abc import Callable, Collection
from typing import Any

from flamingo_blocks.errors import CheckpointError

_SHOWN = 5


def load_and_list_missing(load: Callable[..., Any], name: str, **keywords: Any) -> tuple[Any, list[str]]:
    """Load a model, and say which of its weights no file holds.

    Args:
        load: `from_pretrained` of a class of transformers.
        name: Name on the hub, or a folder.
        **keywords: Passed on.

    Returns:
        The model, and the names of weights that are missing or of another shape in the files; not those that are tied
        to others, nor what the class makes itself.
    """
    model, info = load(name, output_loading_info=True, **keywords)
    other_shape = (key if isinstance(key, str) else key[0] for key in info.get("mismatched_keys", ()))
    return model, sorted({*info.get("missing_keys", ()), *other_shape})


def refuse_missing(missing: Collection[str], name: str, what: str) -> None:
    """Refuse a model with weights that are in no file.

    Args:
        missing: Names of these weights.
        name: Of the model.
        what: What errors call it.

    Raises:
        CheckpointError: If there are any.

    Example:
        >>> try:
        ...     refuse_missing(["norm.weight"], "opt", "language model")
        ... except CheckpointError as error:
        ...     print(str(error).partition(";")[0])
        the language model opt lacks 1 weights, which would be drawn at random: norm.weight
    """
    if missing:
        some = ", ".join(list(missing)[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
        raise CheckpointError(
            f"the {what} {name} lacks {len(missing)} weights, which would be drawn at random: {some}; wanted all of "
            "them: get the files again, or name the folder of a whole model"
        )
