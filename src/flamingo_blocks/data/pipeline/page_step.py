"""Pages of one shard to the documents that filters keep, with the bytes of their images."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flamingo_blocks.data.build import Kept, Shard
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument, Segment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered
from flamingo_blocks.data.filters import FilterChain
from flamingo_blocks.data.html import extract_page
from flamingo_blocks.data.html.page_rules import BoilerplateRule
from flamingo_blocks.data.pipeline.plain_values import plain_values
from flamingo_blocks.data.pipeline.write_documents import Keyed, document_key, write_documents
from flamingo_blocks.data.sources import Fetcher, Page
from flamingo_blocks.data.without_parts import without_parts

NOTHING = FilterChain([])


@dataclass(frozen=True)
class PageStep:
    """Read pages, filter their text, fetch what images are left, filter those: a step for `run_shards`.

    What is cheap comes first: no image is fetched for a page whose text is dropped.

    Args:
        before: Filters that see the text, and images by their address.
        fetcher: Gives the bytes of images; `None` leaves addresses.
        after: Filters that see the bytes of images.
        boilerplate: As in `extract_page`.
        prefer: As in `extract_page`.
        max_images: As in `extract_page`.
        max_image_bytes: Most bytes of all images of a page; an image that stands there several times is written as
            often. What comes beyond is taken out.

    Raises:
        ValueError: If a filter stands alone, or `fetcher` fetches nothing.

    Example:
        >>> step = PageStep()
        >>> kept = step.process(("0-000000", Page("https://ex.com/", b"<p>Tom<img src=tom.jpg>")))
        >>> [type(segment).__name__ for segment in kept.value[1].segments]
        ['TextSegment', 'ImageSegment']
    """

    before: FilterChain = NOTHING
    fetcher: Fetcher | None = None
    after: FilterChain = NOTHING
    boilerplate: BoilerplateRule = "tags"
    prefer: Literal["first", "largest"] = "first"
    max_images: int = 1000
    max_image_bytes: int = 256 << 20
    name: str = field(default="documents", init=False)
    suffix: str = field(default=".tar", init=False)

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            if not isinstance(keep := getattr(self, name), FilterChain):
                told = f"{name} is a {type(keep).__name__}, wanted a FilterChain; give FilterChain([...])"
                raise ValueError(told)  # noqa: TRY004 - a caller's slip, as everywhere
        if self.fetcher is not None and not hasattr(self.fetcher, "fetch"):
            raise ValueError(f"fetcher is a {type(self.fetcher).__name__}, wanted one such as open_images(path)")

    @property
    def config(self) -> Mapping[str, Any]:
        """All that decides the output."""
        told = plain_values(self)
        return {key: value for key, value in told.items() if key not in ("is", "name", "suffix")}

    def read(self, shard: Shard) -> Iterator[tuple[str, Page | Dropped]]:
        """The pages of a shard whose source is a `PageShard`, each with the key of its document."""
        for number, page in enumerate(shard.source.read()):
            yield document_key(shard.name, number), page

    def process(self, record: tuple[str, Page | Dropped]) -> Kept | Dropped:
        """The document of a page with its key, or why there is none."""
        key, page = record
        if isinstance(page, Dropped):
            return page
        found = extract_page(
            page.content, url=page.url, content_type=page.content_type, boilerplate=self.boilerplate,
            prefer=self.prefer, max_images=self.max_images,
        )  # fmt: skip
        if isinstance(found, Dropped):
            return found
        document: InterleavedDocument | Dropped = replace(found, metadata={**page.metadata, **found.metadata})
        removed: list[Dropped] = []
        for look in (self.before.filter_items, self._fetch, self.after.filter_items):
            if isinstance(document, InterleavedDocument):
                result = look(document)
                document, removed = result.document, [*removed, *result.removed]
        return document if isinstance(document, Dropped) else Kept((key, document), removed=tuple(removed))

    def write(self, results: Iterable[Keyed], file: Path) -> None:
        """A tar shard of documents."""
        write_documents(results, file)

    def _fetch(self, document: InterleavedDocument) -> Filtered:
        """The document with the bytes of its images; those that cannot be had are taken out, each for its reason."""
        if self.fetcher is None:
            return Filtered(document)
        fetched: dict[str, bytes | Dropped] = {}
        changed: dict[int, Segment | None] = {}
        removed: list[Dropped] = []
        room = self.max_image_bytes
        for place, item in enumerate(document.segments):
            if not isinstance(item, ImageSegment) or item.data is not None or not item.url:
                continue
            if item.url not in fetched and room >= 0:
                fetched[item.url] = self.fetcher.fetch(item.url)
            found = fetched.get(item.url, b"")
            room -= 0 if isinstance(found, Dropped) else len(found)
            if room < 0:
                found = Dropped("page_image_bytes", f"more than {self.max_image_bytes} bytes of images")
            changed[place] = None if isinstance(found, Dropped) else replace(item, data=found)
            removed += [found] if isinstance(found, Dropped) else []
        return Filtered(without_parts(document, changed), tuple(removed))
