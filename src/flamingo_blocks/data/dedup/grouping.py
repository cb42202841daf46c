"""Groups of rows of all shards, of each of which one stays."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.components import Components
from flamingo_blocks.data.dedup.duplicates import Duplicates
from flamingo_blocks.data.dedup.parts import PartName
from flamingo_blocks.data.dedup.signatures import Signatures, column, pack_strings, unpack_string

Join = Callable[[Components, Sequence[Signatures]], None]
Member = tuple[int, str, int, int]  # rank, document, segment, key of what may go: the least of a group stays
AT_A_TIME = 1 << 19  # members of groups, some 200 MB


def group(partials: Sequence[Signatures], *, of: PartName, reason: str, join: Join) -> Duplicates:
    """Put rows of all shards together, and keep of each group the newest, then that of the least document.

    Args:
        partials: Of all shards, of one kind.
        of: What is compared.
        reason: Why what does not stay goes.
        join: Joins the rows that belong together.
    """
    np = require("numpy", used_by="merge", extra="data")
    _refuse_repeated_documents(np, partials)
    sizes = [len(one) for one in partials]
    rows = Components(sum(sizes))
    join(rows, partials)
    roots = rows.roots
    counts = np.bincount(roots, minlength=len(roots))
    counts[counts == 1] = 0
    found = _Found()
    for first, last in _ranges(np, counts):
        chosen = (roots >= first) & (roots < last) & (counts[roots] > 0)
        members: dict[int, list[Member]] = {}
        start = 0
        for one, size in zip(partials, sizes, strict=True):
            for row, member in _members(np, one, chosen[start : start + size]):
                members.setdefault(int(roots[start + row]), []).append(member)
            start += size
        found.add(members.values())
    return Duplicates(of, reason, found.table())


def _ranges(np: Any, counts: Any) -> Iterator[tuple[int, int]]:
    """Ranges of roots with some members each, so that no more of them are looked at than fit."""
    number = np.cumsum(counts)
    total = int(number[-1]) if len(number) else 0
    steps = np.searchsorted(number, np.arange(AT_A_TIME, total, AT_A_TIME))
    bounds = [0, *(int(step) + 1 for step in steps), len(number)] if total else []
    yield from ((first, last) for first, last in pairwise(bounds) if counts[first:last].any())


def _members(np: Any, one: Signatures, chosen: Any) -> Iterator[tuple[int, Member]]:
    picked = np.flatnonzero(chosen)
    if not len(picked):
        return
    names, ends = one.arrays["names"], one.arrays["name_ends"]
    columns = (one.arrays[name][picked].tolist() for name in ("rank", "document", "segment", "part"))
    for row, rank, document, segment, part in zip(picked.tolist(), *columns, strict=True):
        yield row, (rank, unpack_string(names, ends, document), segment, part)


class _Found:
    """The table of what has duplicates while it is made."""

    def __init__(self) -> None:
        self._np = require("numpy", used_by="merge", extra="data")
        self._rows: list[tuple[Any, Any, Any]] = []
        self._names: list[tuple[Any, Any]] = []
        self._num_names = self._num_removed = 0

    def add(self, groups: Any) -> None:
        """Some groups; those of one content are in one of them."""
        rows: dict[int, tuple[int, bool]] = {}
        names: list[str] = []
        for members in groups:
            _, name, _, stays = min(members)
            rows.update((key, (self._num_names + len(names), key == stays)) for *_, key in members)
            names.append(name)
            self._num_removed += len(members) - 1
        owners, stay = zip(*rows.values(), strict=True)
        np = self._np
        self._rows.append((np.array(list(rows), np.uint64), np.array(owners, np.int64), np.array(stay, bool)))
        self._names.append(pack_strings(names))
        self._num_names += len(names)

    def table(self) -> dict[str, Any]:
        """All of them by their keys; the names in the order in which those ask for them."""
        np = self._np
        empty = (np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, bool))
        keys, owners, stays = (np.concatenate(arrays) for arrays in zip(empty, *self._rows, strict=True))
        order = np.argsort(keys)
        _, first, owners = np.unique(owners[order], return_index=True, return_inverse=True)
        asked = np.argsort(first)
        place = np.empty_like(asked)
        place[asked] = np.arange(len(asked))
        names, ends = self._names_in(asked)
        return {
            "keys": keys[order], "owners": place[owners], "stays": stays[order],
            "names": names, "name_ends": ends, "num_removed": np.array(self._num_removed),
        }  # fmt: skip

    def _names_in(self, order: Any) -> tuple[Any, Any]:
        np = self._np
        lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(ends, prepend=0) for _, ends in self._names)])
        names = np.concatenate([np.empty(0, np.uint8), *(packed for packed, _ in self._names)])
        starts, lengths = (np.cumsum(lengths) - lengths)[order], lengths[order]
        ends = np.cumsum(lengths)
        return names[np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())], ends


def _refuse_repeated_documents(np: Any, partials: Sequence[Signatures]) -> None:
    keys = column(partials, "name_keys")
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(again):
        return
    row = int(order[again[0] + 1])
    for one in partials:
        ends = one.arrays["name_ends"]
        if row < len(ends):
            name = unpack_string(one.arrays["names"], ends, row)
            raise ValueError(f"the document {name!r} was given twice; every document needs a key of its own")
        row -= len(ends)
