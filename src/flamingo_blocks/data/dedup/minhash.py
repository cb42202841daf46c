"""MinHash: short signatures of texts, alike in the share of places that the texts share of their runs of words."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Literal

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.canonical_text import canonical_text
from flamingo_blocks.errors import MissingDependencyError

MinHashBackend = Literal["auto", "rensa", "numpy"]
Sketch = Callable[[Any, Any, int], Any]  # hashes of all texts, where each text begins and ends, places: a row a text

SEED = 0x5EED
STEP = 0x9E3779B97F4A7C15  # of SplitMix64, odd: every power of it can be undone
MOST_WORDS = 200_000  # that are remembered with their hashes, some 30 MB
BLOCK = 2048  # runs of words at a time, so that what is multiplied stays in the cache


def pick_backend(backend: MinHashBackend) -> tuple[str, Sketch]:
    """The version of a backend's signatures and what makes them.

    Args:
        backend: `"rensa"`, `"numpy"`, or `"auto"` for the first of them that is installed.
    """
    if backend not in ("auto", "rensa", "numpy"):
        raise ValueError(f"backend is {backend!r}, wanted 'auto', 'rensa' or 'numpy'")
    if backend == "numpy":
        return "numpy-1", _numpy_sketch
    try:
        package = require("rensa", used_by="TextNearDuplicates(backend='rensa')", extra="dedup")
    except MissingDependencyError:
        if backend == "rensa":
            raise
        return "numpy-1", _numpy_sketch
    return f"rensa-{package.RMinHash.ALGORITHM_VERSION}", _rensa_sketch


class RunHashes:
    """Hashes of the runs of words of texts: 64 bits each, the same in every process.

    Args:
        words: In a run. A text of fewer words is one run.
    """

    def __init__(self, words: int) -> None:
        self._words = words
        self._of_word = _WordHashes()

    def __call__(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """The hashes of all texts in one array, and the bounds of each text in it.

        Args:
            texts: As they are; they are made canonical here.
        """
        np = require("numpy", used_by="TextNearDuplicates", extra="data")
        found = [self._of_text(np, text) for text in texts]
        bounds = np.cumsum([0, *(len(one) for one in found)], dtype=np.uint64)
        return np.concatenate([np.empty(0, np.uint64), *found]), bounds

    def _of_text(self, np: Any, text: str) -> Any:
        words = canonical_text(text).split()
        self._of_word.make_room()
        hashes = np.fromiter(map(self._of_word.__getitem__, words), np.uint64, len(words))
        length = min(self._words, len(words))
        if not length:
            return hashes
        runs = np.full(len(words) - length + 1, length, np.uint64)
        for first in range(length):  # h = h * step + word: the order of the words counts
            runs *= np.uint64(STEP)
            runs += hashes[first : first + len(runs)]
        return mixed(np, runs)


class _WordHashes(dict[str, int]):
    """The hash of a word, remembered: words are few beside the times that they stand in texts."""

    def __missing__(self, word: str) -> int:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        found = self[word] = int.from_bytes(digest, "little")
        return found

    def make_room(self) -> None:
        if len(self) > MOST_WORDS:
            self.clear()


def mixed(np: Any, values: Any) -> Any:
    """Numbers of 64 bits stirred, so that every bit depends on all: the finish of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _rensa_sketch(hashes: Any, bounds: Any, places: int) -> Any:
    np = require("numpy", used_by="TextNearDuplicates", extra="data")
    package = require("rensa", used_by="TextNearDuplicates(backend='rensa')", extra="dedup")
    matrix = package.RMinHash.digest_matrix_from_flat_token_hashes(hashes, bounds, places, SEED)
    return np.asarray(matrix.to_rows(), np.uint64).reshape(len(bounds) - 1, places)


def _numpy_sketch(hashes: Any, bounds: Any, places: int) -> Any:
    """For each place an own order of all hashes, `odd * hash + offset` modulo 2 ** 64, and the least of it."""
    np = require("numpy", used_by="TextNearDuplicates", extra="data")
    numbers = np.arange(1, 2 * places + 1, dtype=np.uint64) * np.uint64(STEP) + np.uint64(SEED)
    factors, offsets = mixed(np, numbers).reshape(2, places, 1)
    factors |= np.uint64(1)
    found = np.full((len(bounds) - 1, places), np.iinfo(np.uint64).max, np.uint64)
    for row, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        for first in range(start, end, BLOCK):
            values = factors * hashes[first : min(first + BLOCK, end)]
            values += offsets
            np.minimum(found[row], values.min(axis=1), out=found[row])
    return found


def band_keys(sketches: Any, bands: int) -> Any:
    """One number for each band of a signature, in which the band's number is stirred too.

    Args:
        sketches: `[texts, places]`.
        bands: They divide the places evenly.

    Returns:
        `[bands, texts]`
    """
    np = require("numpy", used_by="TextNearDuplicates", extra="data")
    parts = sketches.reshape(len(sketches), bands, -1).transpose(2, 1, 0)  # places of a band, bands, texts
    keys = np.arange(bands, dtype=np.uint64)[:, None] + np.zeros(len(sketches), np.uint64)
    for part in parts:
        keys = mixed(np, (keys ^ part) * np.uint64(STEP) + np.uint64(SEED))
    return keys
