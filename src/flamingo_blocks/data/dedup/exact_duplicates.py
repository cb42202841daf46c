"""Documents and images that are there more than once, to the letter."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from flamingo_blocks.data.addresses import address
from flamingo_blocks.data.dedup.canonical_text import canonical_text
from flamingo_blocks.data.dedup.duplicates import Duplicates
from flamingo_blocks.data.dedup.grouping import group
from flamingo_blocks.data.dedup.keys import age_rank, text_key
from flamingo_blocks.data.dedup.parts import Part, images, whole
from flamingo_blocks.data.dedup.rows import Rows
from flamingo_blocks.data.dedup.signatures import Signatures, checked_partials, column
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument
from flamingo_blocks.data.filters.document_text import document_text

ExactBy = Literal["text", "url", "images", "image"]
REASONS: dict[ExactBy, str] = {
    "text": "duplicate_text", "url": "duplicate_url", "images": "duplicate_images", "image": "duplicate_image",
}  # fmt: skip


class ExactDuplicates:
    """Find what is there more than once, to the letter.

    Args:
        by: What is compared. `"text"`: the canonical text of the document. `"url"`: the address of its page, the
            metadata `url`. `"images"`: the set of the addresses of its images. `"image"`: each image by the bytes of
            its file. A document without what is compared is no duplicate.

    Of documents of one page or of one set of images the newest stays, by the metadata `date`; of others, and where no
    date can be read, the one of the least key, and of an image its first place in that document.

    Raises:
        ValueError: If `by` is none of these.

    Example:
        >>> pages = [
        ...     (date, InterleavedDocument.from_parts(["Cats."], metadata={"url": "https://ex.com/", "date": date}))
        ...     for date in ("2023-05-01", "2024-02-01")
        ... ]
        >>> find = ExactDuplicates("url")
        >>> duplicates = find.merge([find.signatures(pages)])
        >>> [type(duplicates.filter(key, page)).__name__ for key, page in pages]
        ['Dropped', 'InterleavedDocument']

    Source:
        OBELICS (arXiv 2306.16527), section 3.2 and A.1.5: addresses of pages, then sets of images, the latest kept.
    """

    def __init__(self, by: ExactBy) -> None:
        if by not in REASONS:
            raise ValueError(f"by is {by!r}, wanted one of {', '.join(map(repr, REASONS))}")
        self.by = by
        self.kind = f"exact {by} 1"
        self.reasons = (REASONS[by],)

    def signatures(self, documents: Iterable[tuple[str, InterleavedDocument]]) -> Signatures:
        """What the documents of one shard are compared by: a number for each, and its key.

        Args:
            documents: A key, unique in all shards, and a document each.
        """
        rows, keys = Rows(), []
        for name, document in documents:
            rank = age_rank(document.metadata.get("date")) if self.by in ("url", "images") else 0
            for part, key in self._compared(name, document):
                rows.add(name, part, rank=rank)
                keys.append(key)
        return rows.signatures(self.kind, [keys])

    def _compared(self, name: str, document: InterleavedDocument) -> Iterator[tuple[Part, int]]:
        if self.by == "image":
            yield from ((part, part.key) for part in images(name, document))
            return
        found: str | None = None
        if self.by == "text":
            found = canonical_text(document_text(document))
        elif self.by == "url":
            found = address(document.metadata.get("url"))
        else:
            urls = {address(one.url) for one in document.segments if isinstance(one, ImageSegment)}
            found = "\n".join(sorted(url for url in urls if url is not None))
        if found:
            yield from ((part, text_key(found)) for part in whole(name, document))

    def merge(self, partials: Iterable[Signatures | str | Path]) -> Duplicates:
        """What is to go, of all shards; their number and order do not matter.

        Args:
            partials: The signatures of all shards, or the files that they are saved in.

        Raises:
            ValueError: If some were made by another finder, or a document was given twice.
        """
        return group(
            checked_partials(partials, self.kind),
            of="image" if self.by == "image" else "document",
            reason=self.reasons[0],
            join=lambda rows, found: rows.join_equal(column(found, "key_0")),
        )
