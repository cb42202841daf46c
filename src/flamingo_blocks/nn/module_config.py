"""Modules remember how they were built, so that a saved model can be built again."""

from typing import Any


def constructor_arguments(local_names: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, from the `locals()` of its first line.

    Args:
        local_names: `locals()`, taken before any other name is bound.

    Returns:
        The arguments by name, without `self`.

    Example:
        >>> def build(self, *, dim, depth=1):
        ...     return constructor_arguments(locals())
        >>> build(None, dim=4)
        {'dim': 4, 'depth': 1}
    """
    return {name: value for name, value in local_names.items() if name not in ("self", "__class__")}


def check_sizes(**sizes: int | None) -> None:
    """Refuse sizes of which nothing can be built.

    Args:
        **sizes: By the names of the arguments; `None` is left to a default.

    Raises:
        ValueError: If one is less than 1.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}, wanted 1 or more")
