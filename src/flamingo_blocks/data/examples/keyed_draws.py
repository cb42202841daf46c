"""Random numbers that depend on a key and on what they are for, and on nothing that was drawn before."""

import operator
from hashlib import blake2b
from typing import Any

Key = int | str | tuple[Any, ...]


class KeyedDraws:
    """Random numbers of one sample, each a function of the sample's key and of a purpose.

    So a sample is the same in whichever worker, order or run it is made, and a draw that is added later changes none
    of the others.

    Args:
        key: Integers and strings, such as `(seed, epoch, "page 17")`.

    Raises:
        TypeError: If the key holds anything else.

    Example:
        >>> draws = KeyedDraws((0, 3, "page 17"))
        >>> draws.uniform("flip", 0) == KeyedDraws((0, 3, "page 17")).uniform("flip", 0)
        True
        >>> draws.uniform("flip", 0) == draws.uniform("flip", 1)
        False
    """

    def __init__(self, key: Key) -> None:
        self._keyed = blake2b(repr(_plain(key)).encode(), digest_size=8)

    def uniform(self, *purpose: int | str) -> float:
        """A number from 0 to 1, 1 excluded.

        Args:
            purpose: What it is for, such as `"flip"` and the number of an image.
        """
        hashed = self._keyed.copy()
        hashed.update(repr(purpose).encode())
        return (int.from_bytes(hashed.digest(), "big") >> 11) * 2.0**-53  # as many bits as a float holds

    def happens(self, chance: float, *purpose: int | str) -> bool:
        """True with a chance from 0 (never) to 1 (always).

        Args:
            chance: How often.
            purpose: As in `uniform`.
        """
        return self.uniform(*purpose) < chance


def _plain(key: object) -> int | str | tuple[Any, ...]:
    """The same key of plain integers and strings, so that `np.int64(3)` and 3 are one key."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, tuple | list):
        return tuple(_plain(part) for part in key)
    try:
        return operator.index(key)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"key holds {key!r}, a {type(key).__name__}, wanted integers and strings") from None
