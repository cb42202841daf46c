"""Images and paragraphs that stand on many pages: logos, banners, menus."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.duplicates import Duplicates
from flamingo_blocks.data.dedup.parts import PARTS
from flamingo_blocks.data.dedup.signatures import Signatures, checked_partials
from flamingo_blocks.data.documents import InterleavedDocument

FrequentPart = Literal["image_url", "paragraph"]
REASONS: dict[FrequentPart, str] = {"image_url": "frequent_image", "paragraph": "frequent_paragraph"}
MOST: dict[FrequentPart, int] = {"image_url": 10, "paragraph": 2}
AT_A_TIME = 1 << 25  # counts that are added up at a time, some 2 GB


class FrequentParts:
    r"""Find what stands so often that it is no content of any page, and take out all of it.

    Args:
        of: `"image_url"`: images by their address, in all documents together. `"paragraph"`: paragraphs by their words,
            within one host, that of the metadata `url`; documents that tell none keep theirs.
        most: Times that something may stand and be kept; 10 for images and 2 for paragraphs by default.

    Raises:
        ValueError: If `of` is none of these or `most` is below 1.

    Example:
        >>> pages = [
        ...     (str(n), InterleavedDocument.from_parts([f"Cat {n}\n\nShare this!"], metadata={"url": "https://ex.com/"}))
        ...     for n in range(3)
        ... ]
        >>> find = FrequentParts("paragraph")
        >>> frequent = find.merge([find.signatures(pages)])
        >>> frequent.filter(*pages[0]).text, frequent.num_removed
        ('Cat 0', 3)

    Source:
        OBELICS (arXiv 2306.16527), section 3.2 and A.1.5: images by their addresses above 10, paragraphs of a domain
        above 2. There a paragraph is compared to the letter.
    """

    def __init__(self, of: FrequentPart, *, most: int | None = None) -> None:
        if of not in REASONS:
            raise ValueError(f"of is {of!r}, wanted one of {', '.join(map(repr, REASONS))}")
        self.of = of
        self.most = MOST[of] if most is None else most
        if self.most < 1:
            raise ValueError(f"most is {most}, wanted 1 or more")
        self.kind = f"frequent {of} 1"
        self.reasons = (REASONS[of],)

    def signatures(self, documents: Iterable[tuple[str, InterleavedDocument]]) -> Signatures:
        """How often each image or paragraph stands in the documents of one shard.

        Args:
            documents: A key and a document each.
        """
        np = require("numpy", used_by="FrequentParts", extra="data")
        parts = PARTS[self.of]
        counts = Counter(part.key for name, document in documents for part in parts(name, document))
        keys = sorted(counts)
        numbers = np.array([counts[key] for key in keys], np.int64)
        return Signatures(self.kind, {"key_0": np.array(keys, np.uint64), "counts": numbers})

    def merge(self, partials: Iterable[Signatures | str | Path]) -> Duplicates:
        """What stands too often in all shards together; their number and order do not matter.

        Args:
            partials: The signatures of all shards, or the files that they are saved in.

        Raises:
            ValueError: If some were made by another finder.
        """
        np = require("numpy", used_by="FrequentParts", extra="data")
        found = checked_partials(partials, self.kind)
        rounds = max(1, -(-sum(map(len, found)) // AT_A_TIME))
        bounds = [number * 2**64 // rounds for number in range(1, rounds)]  # keys are spread evenly
        often, removed = [np.empty(0, np.uint64)], 0
        for first, last in zip([None, *bounds], [*bounds, None], strict=True):
            keys, counts = _added_up(np, found, first, last)
            often.append(keys[counts > self.most])
            removed += int(counts[counts > self.most].sum())
        keys = np.concatenate(often)
        arrays = {
            "keys": keys, "owners": np.full(len(keys), -1), "stays": np.zeros(len(keys), bool),
            "names": np.empty(0, np.uint8), "name_ends": np.empty(0, np.int64), "num_removed": np.array(removed),
        }  # fmt: skip
        return Duplicates(self.of, self.reasons[0], arrays)


def _added_up(np: Any, partials: Sequence[Signatures], first: int | None, last: int | None) -> tuple[Any, Any]:
    """All keys from one to another, in order, and how often each stands."""
    keys, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for one in partials:
        all_keys = one.arrays["key_0"]
        start = 0 if first is None else np.searchsorted(all_keys, np.uint64(first))
        end = len(all_keys) if last is None else np.searchsorted(all_keys, np.uint64(last))
        keys.append(all_keys[start:end])
        counts.append(one.arrays["counts"][start:end])
    found, place = np.unique(np.concatenate(keys), return_inverse=True)
    return found, np.bincount(place, weights=np.concatenate(counts), minlength=len(found)).astype(np.int64)
