"""One pass over the tree of a page, in reading order: runs of text, and images at their places."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from flamingo_blocks.data.documents import ImageSegment, Segment, TextSegment
from flamingo_blocks.data.html.image_urls import absolute_url, declared_px, image_url
from flamingo_blocks.data.html.page_rules import (
    BOILERPLATE,
    BREAK,
    FIGURE,
    HEADER,
    IMAGE,
    INLINE,
    LEVELS,
    LINK,
    NOSCRIPT,
    PARAGRAPH,
    PRE,
    RULES,
    SECTION,
    SKIP,
    BoilerplateRule,
)
from flamingo_blocks.data.html.page_text import PageText


class TooManyImages(Exception):  # noqa: N818 - it becomes a reason
    """A page with more images than any reader would look at."""


class PageWalk:
    """Walks one page.

    Args:
        base: Address that links of the page start from.
        prefer: See `image_url`.
        boilerplate: See `extract_page`.
        max_images: Where the walk is given up.
        hidden: Elements of the tree, by their `mem_id`, that are passed over.
    """

    def __init__(
        self,
        *,
        base: str,
        prefer: Literal["first", "largest"],
        boilerplate: BoilerplateRule,
        max_images: int,
        hidden: frozenset[int],
    ) -> None:
        self.base, self.prefer, self.max_images, self.hidden = base, prefer, max_images, hidden
        self.drops_tags = boilerplate == "tags"
        self.drops = boilerplate if callable(boilerplate) else None
        self.segments: list[Segment] = []
        self.text = PageText()
        self.preformatted = self.noscript = self.sections = 0  # how many such elements are open
        self.links: list[Any] = []
        self.told: list[dict[str, Any]] = []  # what the page says of each image besides
        self.figures: list[int] = []  # how many images there were at the begin of each open figure

    def run(self, root: Any) -> list[Segment]:
        """Give the segments below an element.

        Args:
            root: A node of selectolax.lexbor.
        """
        open_elements: list[tuple[Any, int]] = []
        rules, hidden, drops, edge, add = RULES, self.hidden, self.drops, self.text.edge, self.text.add
        node = root.first_child
        while True:
            while node is None:  # the end of an element
                if not open_elements:
                    self._end_text()
                    return self.segments
                element, rule = open_elements.pop()
                node = element.next
                if rule > PARAGRAPH:
                    rule = self._leave(element, rule)
                if rule:
                    edge(rule)
            name = node.tag
            if name == "-text":
                if self.preformatted or self.noscript:
                    self._add_other_text(node.text_content)
                else:
                    add(node.text_content)
                node = node.next
                continue
            rule = rules.get(name, INLINE)
            if (hidden and node.mem_id in hidden) or (drops and drops(name, node.attributes)):
                rule = SKIP
            if rule > PARAGRAPH:
                rule = self._enter(node, rule)
            if rule == SKIP:
                node = node.next
                continue
            if level := LEVELS[rule]:
                edge(level)
            open_elements.append((node, rule))
            node = node.first_child

    def _enter(self, node: Any, rule: int) -> int:
        """Do what a tag asks for beside an edge; `SKIP` where there is nothing more to walk."""
        if rule == IMAGE:
            self._add_image(node)
            return SKIP
        if rule == BREAK:
            self.text.line_break()
            return SKIP
        if self.drops_tags and (rule == BOILERPLATE or (rule == HEADER and not self.sections)):
            return SKIP
        if rule == LINK:
            self.links.append(node)
        elif rule == FIGURE:
            self.figures.append(len(self.told))
        self._count(rule, 1)
        return rule

    def _leave(self, node: Any, rule: int) -> int:
        """Undo it; the edge that is left."""
        if rule == LINK:
            self.links.pop()
        elif rule == FIGURE:
            self._caption(node, self.figures.pop())
        self._count(rule, -1)
        return LEVELS[rule]

    def _add_other_text(self, raw: str) -> None:
        if not self.noscript:  # there it tells people to switch scripts on
            self.text.add_preformatted(raw)

    def _count(self, rule: int, change: int) -> None:
        if rule == PRE:
            self.preformatted += change
        elif rule == NOSCRIPT:
            self.noscript += change
        elif rule == SECTION:
            self.sections += change

    def _end_text(self) -> None:
        if text := self.text.take():
            self.segments.append(TextSegment(text))

    def _add_image(self, node: Any) -> None:
        attributes = node.attributes
        url = image_url(attributes, _sources(node), base=self.base, prefer=self.prefer)
        if url is None:
            return
        last = self.segments[-1] if self.segments and not self.text else None
        if isinstance(last, ImageSegment) and last.url == url:
            return  # a lazy image, and itself again for those without scripts
        if len(self.told) == self.max_images:
            raise TooManyImages
        self._end_text()
        self.told.append(self._tell(attributes))
        self.segments.append(ImageSegment(url=url, alt=attributes.get("alt") or None, metadata=self.told[-1]))

    def _tell(self, attributes: Mapping[str, str | None]) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for side in ("width", "height"):
            if side in attributes and (size := declared_px(attributes[side])) is not None:
                told[f"declared_{side}"] = size
        if self.links and (link := absolute_url(self.base, self.links[-1].attributes.get("href") or "")):
            told["link"] = link
        return told

    def _caption(self, figure: Any, start: int) -> None:
        """The caption of a figure is text of the page, and known of each of its images."""
        if len(self.told) == start:
            return
        found = next((child for child in figure.iter() if child.tag == "figcaption"), None)
        if found is not None and (caption := " ".join(found.text(separator=" ").split())):
            for told in self.told[start:]:
                told["caption"] = caption


def _sources(node: Any) -> Sequence[Mapping[str, str | None]]:
    """The `source` elements beside an image in a `picture`."""
    parent = node.parent
    if parent is None or parent.tag != "picture":
        return ()
    return [child.attributes for child in parent.iter() if child.tag == "source"]
