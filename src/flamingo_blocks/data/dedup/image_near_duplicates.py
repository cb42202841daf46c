"""Images that show nearly the same."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.components import Components
from flamingo_blocks.data.dedup.dhash import VERSION, dhash
from flamingo_blocks.data.dedup.duplicates import Duplicates
from flamingo_blocks.data.dedup.grouping import group
from flamingo_blocks.data.dedup.hamming import MAX_BITS, near_pairs
from flamingo_blocks.data.dedup.parts import images
from flamingo_blocks.data.dedup.rows import Rows
from flamingo_blocks.data.dedup.signatures import Signatures, checked_partials, column
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument


class ImageNearDuplicates:
    """Find images that show nearly the same: copies in another size, format or quality.

    Images are compared by `dhash`, every one with every other, also within a document. What is a copy of a copy is a
    copy; of each group the first image of the document of the least key stays, and the others are taken out of their
    documents. Images without bytes, unreadable ones and plain ones are kept: they are no copies of anything.

    Args:
        max_bits: Most of the 64 bits of the hashes of two copies that differ, 0 to 3.

    Raises:
        ValueError: If `max_bits` is not 0 to 3.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> picture = Image.radial_gradient("L").crop((0, 0, 200, 200)).point(lambda grey: grey * 5 % 256)
        >>> pages = []
        >>> for key, width in (("a", 150), ("b", 600)):
        ...     picture.resize((width, width)).save(file := io.BytesIO(), "PNG")
        ...     pages.append((key, InterleavedDocument.from_parts(["A picture: ", file.getvalue()])))
        >>> find = ImageNearDuplicates()
        >>> duplicates = find.merge([find.signatures(pages[:1]), find.signatures(pages[1:])])
        >>> [len(duplicates.filter(key, page).media) for key, page in pages]
        [1, 0]
    """

    reasons = ("near_duplicate_image",)

    def __init__(self, *, max_bits: int = MAX_BITS) -> None:
        if max_bits not in range(MAX_BITS + 1):
            raise ValueError(f"max_bits is {max_bits}, wanted 0 to {MAX_BITS}: beyond, some pairs would not be found")
        self.max_bits = max_bits
        self.kind = f"near image {VERSION}"

    def signatures(self, documents: Iterable[tuple[str, InterleavedDocument]]) -> Signatures:
        """What the images of one shard are compared by: a hash of each, the key of its content, and its place.

        Args:
            documents: A key, unique in all shards, and a document each.
        """
        rows, keys = Rows(), []
        for name, document in documents:
            for part in images(name, document):
                image = document.segments[part.segment]
                found = dhash(image.data) if isinstance(image, ImageSegment) else None
                if isinstance(found, int):
                    rows.add(name, part)
                    keys.append(found)
        return rows.signatures(self.kind, [keys])

    def merge(self, partials: Iterable[Signatures | str | Path]) -> Duplicates:
        """What is to go, of all shards; their number and order do not matter.

        Args:
            partials: The signatures of all shards, or the files that they are saved in.

        Raises:
            ValueError: If some were made by another finder, or a document was given twice.
        """
        return group(checked_partials(partials, self.kind), of="image", reason=self.reasons[0], join=self._join)

    def _join(self, rows: Components, partials: Sequence[Signatures]) -> None:
        np = require("numpy", used_by="ImageNearDuplicates", extra="data")
        hashes, first, number = np.unique(column(partials, "key_0"), return_index=True, return_inverse=True)
        rows.join(np.arange(len(number)), first[number])
        for one, other in near_pairs(hashes, self.max_bits):
            rows.join(first[one], first[other])
