"""What many documents are like, counted in one pass."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any

from flamingo_blocks.data.addresses import host
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument, MediaSegment, TextSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters import ImageGate, document_text
from flamingo_blocks.data.stats.bounded_counts import FrequentNames, Histogram, RepeatedHashes
from flamingo_blocks.data.stats.document_hash import document_hash

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
TOP = 10
_BARS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, inf))
_ANY_IMAGE = ImageGate(min_side_px=1, max_ratio=inf)


@dataclass(frozen=True)
class DocumentStats:
    """What documents are like. Stats of two halves of the data add up to those of the whole: `first + second`.

    Their memory has a bound, whatever the number of documents: lengths are counted by their first twelve bits (0.05 %),
    hosts and repeats exactly up to 10,000 hosts and 65,536 different documents.

    Args:
        documents: How many there are.
        dropped: Records that a step did not keep, by reason.
        texts: Runs of text between media.
        words: Words of each document, parted by space.
        characters: Characters of each document.
        items: Images and clips of each document.
        images: How many there are.
        clips: How many there are.
        with_alt: Images and clips that have a description.
        formats: Images by the format that the header of their file tells; `"not fetched"` without data, `"picture"`
            where the data are no file, and the reason where it cannot be read.
        widths: Of images, in pixels, as their headers tell.
        heights: Likewise.
        file_bytes: Bytes of each file of an image or clip.
        domains: Hosts that documents are from; that of their first image where they have no address themselves.
        languages: Documents by language, where it was asked for.
        hashes: Which documents are repeats of others.

    Example:
        >>> cats = [InterleavedDocument.from_parts(["A cat."])] * 2
        >>> dogs = [InterleavedDocument.from_parts(["Two dogs bark."]), Dropped("no_images")]
        >>> stats = document_stats(cats) + document_stats(dogs)
        >>> stats.documents, stats.duplicates, stats.words.total, stats.dropped
        (3, 1, 7, Counter({'no_images': 1}))
    """

    documents: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    words: Histogram = field(default_factory=Histogram)
    characters: Histogram = field(default_factory=Histogram)
    items: Histogram = field(default_factory=Histogram)
    images: int = 0
    clips: int = 0
    with_alt: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    widths: Histogram = field(default_factory=Histogram)
    heights: Histogram = field(default_factory=Histogram)
    file_bytes: Histogram = field(default_factory=Histogram)
    domains: FrequentNames = field(default_factory=FrequentNames)
    languages: Counter[str] = field(default_factory=Counter)
    hashes: RepeatedHashes = field(default_factory=RepeatedHashes)

    @property
    def duplicates(self) -> int:
        """Documents that are the same as one before them; an estimate where `hashes.is_exact` is False."""
        return self.hashes.repeats(self.documents)

    @property
    def items_per_document(self) -> dict[str, int]:
        """Documents by the number of their images and clips: 0 to 5, 6-10, 11-20, 21-50, 51-100 and more."""
        found = {}
        for low, high in _BARS:
            name = f"{low}" if low == high else f"{low}+" if high == inf else f"{low}-{high}"
            found[name] = sum(times for number, times in self.items.counts.items() if low <= number <= high)
        return found

    def __add__(self, other: "DocumentStats") -> "DocumentStats":
        """Stats of the documents of both."""
        return DocumentStats(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values that `json.dumps` takes; quantiles are of the shares in `quantiles`."""
        return {
            "documents": self.documents,
            "duplicates": self.duplicates,
            "duplicates_are_exact": self.hashes.is_exact,
            "dropped": _by_count(self.dropped),
            "texts": self.texts,
            "words": self.words.total,
            "characters": self.characters.total,
            "images": self.images,
            "clips": self.clips,
            "with_alt": self.with_alt,
            "file_bytes": self.file_bytes.total,
            "items_per_document": self.items_per_document,
            "formats": _by_count(self.formats),
            "quantiles": list(QUANTILES),
            "words_per_document": self.words.quantiles(QUANTILES),
            "characters_per_document": self.characters.quantiles(QUANTILES),
            "image_widths_px": self.widths.quantiles(QUANTILES),
            "image_heights_px": self.heights.quantiles(QUANTILES),
            "bytes_per_file": self.file_bytes.quantiles(QUANTILES),
            "domains": dict(self.domains.most_common(TOP)),
            "domains_missed_at_most": self.domains.max_missed,
            "languages": _by_count(self.languages),
        }


def document_stats(
    documents: Iterable[InterleavedDocument | Dropped],
    *,
    identify: Callable[[str], tuple[str, float]] | None = None,
) -> DocumentStats:
    """Count what documents are like, in one pass and in bounded memory.

    Count before training, to see what is there: how many images documents have, how long texts are, which files are
    broken, what came twice. No pixel is decoded.

    Args:
        documents: Any number of them; a `Dropped` among them is counted by its reason.
        identify: Text in, language and confidence out, such as `filters.identify_language`; languages are not counted
            without.

    Returns:
        The stats; those of parts can be added.

    Raises:
        MissingDependencyError: If there are files of images and pillow is missing.

    Example:
        >>> documents = [InterleavedDocument.from_tagged("Our cat: <image>She sleeps.", [None])]
        >>> stats = document_stats(documents)
        >>> stats.documents, stats.images, stats.words.total, dict(stats.formats)
        (1, 1, 4, {'not fetched': 1})
        >>> (stats + stats).duplicates
        1
    """
    counts: Counter[str] = Counter()
    stats = DocumentStats()
    for document in documents:
        if isinstance(document, Dropped):
            stats.dropped[document.reason] += 1
            continue
        counts["documents"] += 1
        texts = [one.text for one in document.merged().segments if isinstance(one, TextSegment)]
        counts["texts"] += len(texts)
        stats.words.add(sum(len(text.split()) for text in texts))
        stats.characters.add(sum(map(len, texts)))
        stats.items.add(len(document.media))
        stats.hashes.add(document_hash(document))
        if host := _host(document):
            stats.domains.add(host)
        if identify is not None:
            stats.languages[_language(document, identify)] += 1
        for item in document.media:
            counts["images" if isinstance(item, ImageSegment) else "clips"] += 1
            counts["with_alt"] += bool(item.alt and item.alt.strip())
            _count_file(stats, item)
    return stats + DocumentStats(**counts)  # type: ignore[arg-type]  # counts of whole numbers


def _count_file(stats: DocumentStats, item: MediaSegment) -> None:
    is_file = isinstance(item.data, bytes | bytearray | memoryview)
    if is_file:
        stats.file_bytes.add(len(item.data))
    if not isinstance(item, ImageSegment):
        return
    if not is_file:
        stats.formats["not fetched" if item.data is None else "picture"] += 1
        return
    facts = _ANY_IMAGE.look(bytes(item.data))
    if isinstance(facts, Dropped):
        stats.formats[facts.reason] += 1
        return
    stats.formats[facts.format] += 1
    stats.widths.add(facts.width)
    stats.heights.add(facts.height)


def _language(document: InterleavedDocument, identify: Callable[[str], tuple[str, float]]) -> str:
    text = document_text(document).strip()
    return identify(text)[0] if text else "no text"


def _host(document: InterleavedDocument) -> str | None:
    urls = [document.metadata.get("url"), *(item.url for item in document.media[:1])]
    return next((name for name in map(host, urls) if name), None)


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
