"""Modules remember how they were built, so that a saved model can be built again."""

from numbers import Integral
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


def check_sizes(**sizes: Any) -> None:
    """Refuse sizes of which nothing can be built.

    Args:
        **sizes: By the names of the arguments; `None` is left to a default.

    Raises:
        TypeError: If one is no whole number.
        ValueError: If one is less than 1.
    """
    for name, size in sizes.items():
        if size is None:
            continue
        check_whole(size, name)
        if size < 1:
            raise ValueError(f"{name} is {size}, wanted 1 or more")


def check_whole(size: Any, name: str) -> None:
    """Refuse a float or a string in place of a count, which would fail deep inside of torch.

    Args:
        size: What was given.
        name: Of the argument.

    Raises:
        TypeError: If it is no whole number.
    """
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"{name} is {size!r}, wanted a whole number, such as 8")
