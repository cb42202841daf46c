"""Filters one after another, and a count of what became of the documents and of their images."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered

KEPT = "kept"


DocumentFilter = Callable[[InterleavedDocument], InterleavedDocument | Dropped]


@runtime_checkable
class ItemFilter(Protocol):
    """A filter that takes images or paragraphs out of a document, and says of each why.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> class WithoutLogos:
        ...     def __call__(self, document):
        ...         return self.filter_items(document).document
        ...     def filter_items(self, document):
        ...         kept = [one for one in document.segments if "logo" not in (getattr(one, "url", "") or "")]
        ...         logos = len(document.segments) - len(kept)
        ...         return Filtered(InterleavedDocument(tuple(kept)), (Dropped("logo"),) * logos)
        >>> counts = FilterCounts()
        >>> page = InterleavedDocument.from_parts([ImageSegment(url="logo.png"), "Text.", ImageSegment(url="cat.jpg")])
        >>> kept = list(FilterChain([WithoutLogos()]).run([page], counts))
        >>> len(kept[0].media), counts.items["logo"]
        (1, 1)
    """

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """What is left of a document, or why it is dropped.

        Args:
            document: Any.
        """

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and what was taken out.

        Args:
            document: Any.
        """


@dataclass
class FilterCounts:
    """How many documents, and how many parts of them, were kept and were dropped for each reason.

    Args:
        documents: By reason; `"kept"` for those that were kept.
        items: Images and paragraphs that were taken out, by reason; `"kept"` for the images and clips of documents that
            were kept. Those that went with a dropped document are its loss, and not counted again.

    Example:
        >>> counts = FilterCounts()
        >>> counts.add(Filtered(Dropped("no_images"), (Dropped("image_small"), Dropped("image_small"))))
        >>> counts.documents, counts.items
        (Counter({'no_images': 1}), Counter({'image_small': 2}))
    """

    documents: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)

    def add(self, result: Filtered) -> None:
        """Count what became of a document.

        Args:
            result: Of it.
        """
        self.items.update(removed.reason for removed in result.removed)
        if isinstance(result.document, Dropped):
            self.documents[result.document.reason] += 1
        else:
            self.documents[KEPT] += 1
            if media := len(result.document.media):
                self.items[KEPT] += media

    def update(self, other: "FilterCounts") -> None:
        """Add the counts of another part of the documents.

        Args:
            other: They.
        """
        self.documents.update(other.documents)
        self.items.update(other.items)


class FilterChain:
    """Filters one after another: a document that one of them drops is not shown to the next.

    A chain is a filter itself. It keeps no counts, so that it can be sent to any worker; `run` counts into what it is
    given.

    Args:
        filters: Functions of a document that give it back, changed or not, or a `Dropped`. The cheap ones first.

    Example:
        >>> def short(document):
        ...     return document if len(document.text) < 9 else Dropped("long")
        >>> counts = FilterCounts()
        >>> documents = [InterleavedDocument.from_parts([text]) for text in ("Tom", "Tom and Mia", "Mia")]
        >>> [kept.text for kept in FilterChain([short]).run(documents, counts)]
        ['Tom', 'Mia']
        >>> counts.documents
        Counter({'kept': 2, 'long': 1})
    """

    def __init__(self, filters: Sequence[DocumentFilter | ItemFilter]) -> None:
        self.filters = tuple(filters)

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that its filters may say of a document."""
        return _unique(self.filters, "reasons")

    @property
    def item_reasons(self) -> tuple[str, ...]:
        """All that they may say of a part."""
        return _unique(self.filters, "item_reasons")

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep what is left of a document, or say why not.

        Args:
            document: Any.
        """
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and what was taken out by all filters together.

        Args:
            document: Any.
        """
        left: InterleavedDocument | Dropped = document
        removed: tuple[Dropped, ...] = ()
        for keep in self.filters:
            if isinstance(left, Dropped):
                break
            if isinstance(keep, ItemFilter):
                result = keep.filter_items(left)
                left, removed = result.document, removed + result.removed
            else:
                left = keep(left)
        return Filtered(left, removed)

    def run(
        self, documents: Iterable[InterleavedDocument | Dropped], counts: FilterCounts
    ) -> Iterator[InterleavedDocument]:
        """Give the documents that are kept, one at a time.

        Args:
            documents: They; what was dropped before is counted along.
            counts: Gets one count for each document that goes in.
        """
        for document in documents:
            result = Filtered(document) if isinstance(document, Dropped) else self.filter_items(document)
            counts.add(result)
            if not isinstance(result.document, Dropped):
                yield result.document


def _unique(filters: Iterable[DocumentFilter | ItemFilter], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason for one in filters for reason in getattr(one, name, ())))
