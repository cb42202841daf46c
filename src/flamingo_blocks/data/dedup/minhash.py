"""MinHash: short signatures of texts, alike in the share of places that the texts share of their runs of words."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.canonical_text import spaced_words
from flamingo_blocks.errors import MissingDependencyError

MinHashBackend = Literal["auto", "rensa", "numpy"]
Sketch = Callable[[Any, Any, int], Any]  # hashes of all texts, where each text begins and ends, places: a row a text

SEED = 0x5EED
SPACE = ord(" ")
STEP = 0x9E3779B97F4A7C15  # of SplitMix64, odd: every power of it can be undone
LONG_TEXT = 1 << 17  # letters, beyond which powers are not remembered
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


def run_hashes(texts: Sequence[str], words: int) -> tuple[Any, Any]:
    """Hashes of all runs of words of some texts: 64 bits each, the same in every process.

    Args:
        texts: As they are; they are made canonical here.
        words: In a run. A text of fewer words is one run.

    Returns:
        The hashes of all texts in one array, and the bounds of each text in it.
    """
    np = require("numpy", used_by="TextNearDuplicates", extra="data")
    found = [_runs_of(np, spaced_words(text).encode("utf-8", "surrogatepass"), words) for text in texts]
    bounds = np.cumsum([0, *map(len, found)], dtype=np.uint64)
    return np.concatenate([np.empty(0, np.uint64), *found]), bounds


def _runs_of(np: Any, text: bytes, words: int) -> Any:
    """The hashes of one text's runs.

    A run is the polynomial of its letters at a fixed number: the difference of two sums over the text, divided by the
    power at which the run begins.
    """
    letters = np.frombuffer(text, np.uint8)
    in_word = letters != SPACE
    kept = in_word.copy()
    kept[1:] |= in_word[:-1]  # one space behind each word
    letters = letters[kept]
    ends = np.flatnonzero(letters == SPACE)
    if len(letters) and letters[-1] != SPACE:
        ends = np.append(ends, len(letters))
    if not len(ends):
        return np.empty(0, np.uint64)
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    words = min(words, len(ends))
    first, last = starts[: len(starts) - words + 1], ends[words - 1 :]
    powers, inverses = _powers(len(letters))
    sums = np.zeros(len(letters) + 1, np.uint64)
    np.cumsum(letters * powers[: len(letters)], out=sums[1:])
    return mixed(np, (sums[last] - sums[first]) * inverses[first])


@lru_cache(maxsize=1)
def _remembered_powers() -> tuple[Any, Any]:
    return _all_powers(LONG_TEXT)


def _powers(length: int) -> tuple[Any, Any]:
    """Powers of `STEP` modulo 2 ** 64, and their inverses, for the letters of a text."""
    return _remembered_powers() if length <= LONG_TEXT else _all_powers(length)


def _all_powers(length: int) -> tuple[Any, Any]:
    np = require("numpy", used_by="TextNearDuplicates", extra="data")
    steps = np.full((2, length), [[STEP], [pow(STEP, -1, 2**64)]], np.uint64)
    steps[:, 0] = 1
    powers, inverses = np.cumprod(steps, axis=1, dtype=np.uint64)
    return powers, inverses


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
