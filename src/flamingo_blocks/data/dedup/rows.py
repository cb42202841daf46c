"""Signatures while they are gathered: a row for each thing that is compared."""

from collections.abc import Sequence
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.keys import text_key
from flamingo_blocks.data.dedup.parts import Part
from flamingo_blocks.data.dedup.signatures import Signatures, pack_strings


class Rows:
    """Gathers the rows of a shard; one that has the keys of another belongs to it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._columns: dict[str, list[int]] = {"document": [], "segment": [], "part": [], "rank": []}

    def add(self, name: str, part: Part, *, rank: int = 0) -> None:
        """A row.

        Args:
            name: The key that the caller gave the document.
            part: What of it may go.
            rank: The least of a group stays; among equals the least name.
        """
        if not self._names or self._names[-1] != name:
            self._names.append(name)
        row = (len(self._names) - 1, part.segment, part.key, rank)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def signatures(self, kind: str, keys: Sequence[Any]) -> Signatures:
        """All rows.

        Args:
            kind: Of the finder.
            keys: Columns of them, each with a number for each row.
        """
        np = require("numpy", used_by="signatures", extra="data")
        names, ends = pack_strings(self._names)
        types = {"document": np.int32, "segment": np.int32, "part": np.uint64, "rank": np.int64}
        return Signatures(
            kind,
            {
                **{name: np.array(self._columns[name], dtype) for name, dtype in types.items()},
                **{f"key_{number}": np.asarray(column, np.uint64) for number, column in enumerate(keys)},
                "names": names,
                "name_ends": ends,
                "name_keys": np.array([text_key(name) for name in self._names], np.uint64),
            },
        )
