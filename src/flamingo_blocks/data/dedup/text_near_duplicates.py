"""Documents whose texts are nearly the same."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.components import Components
from flamingo_blocks.data.dedup.duplicates import Duplicates
from flamingo_blocks.data.dedup.grouping import group
from flamingo_blocks.data.dedup.minhash import MinHashBackend, band_keys, pick_backend, run_hashes
from flamingo_blocks.data.dedup.parts import whole
from flamingo_blocks.data.dedup.rows import Rows
from flamingo_blocks.data.dedup.signatures import Signatures, checked_partials, column
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.filters.document_text import document_text

AT_A_TIME = 64  # documents


class TextNearDuplicates:
    """Find documents whose texts are nearly the same, by MinHash over runs of words.

    Two texts that share the part `s` of their runs are told to be the same with a chance of `1 - (1 - s**8)**14`: 0.05
    at a half, 0.56 at 0.72, 0.92 at 0.8, 0.9996 at 0.9. What is the same as the same thing is the same; of each group
    the document of the least key stays.

    Args:
        run_words: Words in a run. A text of fewer words is one run, so only its like is found; one of none is kept.
        bands: Parts of a signature; two texts are the same where one part is.
        rows: Places in a band. More bands find more, more rows find less.
        backend: `"rensa"`, `"numpy"`, or `"auto"` for the first of them that is installed. Their signatures differ, and
            are not mixed.

    Raises:
        ValueError: If a number is below 1 or `backend` is none of these.
        MissingDependencyError: If `backend="rensa"` and it is not installed.

    Example:
        >>> text = "It was late in the year when we came to the house by the river, and the people there had no bread."
        >>> find = TextNearDuplicates(backend="numpy")
        >>> first = find.signatures([("a", InterleavedDocument.from_parts([text]))])
        >>> again = InterleavedDocument.from_parts(["*", text.upper()])
        >>> duplicates = find.merge([find.signatures([("b", again)]), first])
        >>> duplicates.filter("b", again)
        Dropped(reason='near_duplicate_text', detail="as in 'a'")

    Source:
        Broder, "On the resemblance and containment of documents" (1997); 14 bands of 8 over runs of 5 words as in
        FineWeb (arXiv 2406.17557). M3W was not deduplicated by its texts.
    """

    reasons = ("near_duplicate_text",)

    def __init__(self, *, run_words: int = 5, bands: int = 14, rows: int = 8, backend: MinHashBackend = "auto") -> None:
        for name, value in (("run_words", run_words), ("bands", bands), ("rows", rows)):
            if value < 1:
                raise ValueError(f"{name} is {value}, wanted 1 or more")
        self.run_words, self.bands, self.rows = run_words, bands, rows
        self.backend, self._sketch = pick_backend(backend)
        self.kind = f"near text {self.backend} 1 {run_words} {bands}x{rows}"

    def sketch(self, texts: Sequence[str]) -> Any:
        """Signatures of texts: the share of places in which two are equal tells the share of runs they have in common.

        Args:
            texts: Any number.

        Returns:
            An array `[texts, bands * rows]` of 64-bit numbers; a text without a word has a row that means nothing.
        """
        return self._sketch(*run_hashes(texts, self.run_words), self.bands * self.rows)

    def signatures(self, documents: Iterable[tuple[str, InterleavedDocument]]) -> Signatures:
        """What the documents of one shard are compared by: a number for each band, and the key.

        Args:
            documents: A key, unique in all shards, and a document each.
        """
        np = require("numpy", used_by="TextNearDuplicates", extra="data")
        rows, keys = Rows(), [np.empty((self.bands, 0), np.uint64)]
        documents = iter(documents)
        while some := list(islice(documents, AT_A_TIME)):
            hashes, bounds = run_hashes([document_text(document) for _, document in some], self.run_words)
            found = band_keys(self._sketch(hashes, bounds, self.bands * self.rows), self.bands)
            told = np.flatnonzero(bounds[1:] > bounds[:-1])  # texts with a word
            keys.append(found[:, told])
            for number in told.tolist():
                name, document = some[number]
                rows.add(name, *whole(name, document))
        return rows.signatures(self.kind, list(np.concatenate(keys, axis=1)))

    def merge(self, partials: Iterable[Signatures | str | Path]) -> Duplicates:
        """What is to go, of all shards; their number and order do not matter.

        A band is read at a time: of a million documents 33 bytes each were held, and 125 where 30 % shared a band.

        Args:
            partials: The signatures of all shards, or the files that they are saved in.

        Raises:
            ValueError: If some were made by another backend or with other options, or a document was given twice.
        """
        return group(checked_partials(partials, self.kind), of="document", reason=self.reasons[0], join=self._join)

    def _join(self, rows: Components, partials: Sequence[Signatures]) -> None:
        for number in range(self.bands):
            rows.join_equal(column(partials, f"key_{number}"))
