"""Which rows belong together, when pairs of rows do."""

from typing import Any

from flamingo_blocks._optional import require


class Components:
    """Rows joined in pairs, by union-find on whole arrays: the least row of a component stands for it.

    It takes eight bytes a row, and what pairs are given at a time.

    Args:
        number: Of rows.

    Example:
        >>> rows = Components(4)
        >>> rows.join([0, 2], [2, 3])
        >>> rows.roots.tolist()
        [0, 1, 0, 0]
    """

    def __init__(self, number: int) -> None:
        self._numpy = require("numpy", used_by="Components", extra="data")
        self.roots: Any = self._numpy.arange(number, dtype=self._numpy.int64)

    def join(self, one: Any, other: Any) -> None:
        """Put the components of each pair together.

        Args:
            one: Rows.
            other: As many rows, each the partner of the one at its place.
        """
        np, roots = self._numpy, self.roots
        one, other = np.asarray(one, np.int64), np.asarray(other, np.int64)
        while one.size:
            one, other = roots[one], roots[other]
            apart = one != other
            one, other = one[apart], other[apart]
            roots[np.maximum(one, other)] = np.minimum(one, other)  # one of several; the others come again
            while True:  # every row points at a root again, and no longer at a row that was one
                shorter = roots[roots]
                if np.array_equal(shorter, roots):
                    break
                roots = shorter
        self.roots = roots

    def join_equal(self, keys: Any) -> None:
        """Put all rows together that have the same key.

        Args:
            keys: One for each row.
        """
        order = self._numpy.argsort(keys, kind="stable")
        ordered = keys[order]
        same = ordered[1:] == ordered[:-1]
        self.join(order[:-1][same], order[1:][same])
