"""How far two texts of tokens are the same."""

from collections.abc import Sequence


def num_alike(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two texts begin with alike.

    Args:
        left: Token ids.
        right: Others.

    Example:
        >>> num_alike([5, 6, 7], [5, 6, 8, 7])
        2
    """
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))
