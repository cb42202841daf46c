"""A page of the web in, its text and images in reading order out."""

from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from flamingo_blocks._optional import require
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.html.decode_page import decode_page
from flamingo_blocks.data.html.guard_page import guard_page
from flamingo_blocks.data.html.image_urls import absolute_url
from flamingo_blocks.data.html.page_rules import (
    MAY_BE_BOILERPLATE,
    MAY_BE_HIDDEN,
    BoilerplateRule,
    is_boilerplate,
    is_hidden,
)
from flamingo_blocks.data.html.walk_page import PageWalk, TooManyImages

MAX_UNREADABLE = 0.01  # of the characters of a page, beyond which its encoding was not found
REPLACEMENT = "\ufffd"


def extract_page(
    page: str | bytes,
    *,
    url: str,
    content_type: str | None = None,
    boilerplate: BoilerplateRule = "tags",
    prefer: Literal["first", "largest"] = "first",
    max_images: int = 1000,
) -> InterleavedDocument | Dropped:
    r"""Read a page as people do: its text, and its images at their places among it.

    Text keeps its words and loses its typesetting: spaces collapse, blocks end lines and paragraphs, `<pre>` stays as
    it is. What is not shown is not read, nor is what is no content: scripts, forms, hidden elements, and by default
    menus, footers and their like. An image is known by its address; `alt`, caption, declared size and link are kept
    beside it and never enter the text.

    Args:
        page: The page; bytes are decoded by `decode_page`.
        url: Its address, http or https, from which its links start.
        content_type: Header it was served with, for bytes.
        boilerplate: What else is left out: `"tags"` for `nav`, `footer`, `aside`, `menu`, a `header` outside of
            articles, elements with such roles, and blocks with such a word as `class` or `id`; `"none"`; or a function
            of a tag and its attributes.
        prefer: `"first"` takes an image's `src` where it has one; `"largest"` asks its `srcset` first.
        max_images: Most images of a page.

    Returns:
        The document, without an empty text and without two texts in a row, whose images have absolute addresses and no
        data yet; or why there is none: `url`, `encoding`, `too_large`, `attributes`, `depth` or `too_many_images`.

    Raises:
        ValueError: If `boilerplate` or `prefer` is none of these.
        MissingDependencyError: If `selectolax` is missing, or `resiliparse` where the bytes alone tell the encoding.

    Example:
        >>> page = "<h1>Cats</h1><p>This is <b>one</b>:<img src=/cat.jpg alt='A cat'>and more."
        >>> document = extract_page(page, url="https://ex.com/")
        >>> [getattr(segment, "text", None) or segment.url for segment in document.segments]
        ['Cats\n\nThis is one:', 'https://ex.com/cat.jpg', 'and more.']

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1, says of M3W "we extract salient text and images from the HTML";
        which text that is, it does not say. OBELICS (arXiv 2306.16527) gives rules; where ours differ is on the page
        "From pages to documents".
    """
    _check_options(boilerplate, prefer)
    if absolute_url(url, url) is None:
        return Dropped("url", f"{url[:200]!r} is no http(s) address, from which links could start")
    html = _well_formed(page) if isinstance(page, str) else decode_page(page, content_type=content_type)
    if isinstance(page, bytes) and html.count(REPLACEMENT) > MAX_UNREADABLE * len(html):
        return Dropped("encoding", f"{html.count(REPLACEMENT)} of {len(html)} characters cannot be read")
    if (told := guard_page(html)) is not None:
        return told
    parse = require("selectolax.lexbor", used_by="extract_page", extra="data").LexborHTMLParser
    tree = parse(html)
    metadata = {"url": url, **_title(tree)}
    if tree.body is None:
        return InterleavedDocument((), metadata)
    walk = PageWalk(
        base=_base(tree, url), prefer=prefer, boilerplate=boilerplate, max_images=max_images,
        hidden=frozenset(_left_out(tree, boilerplate)),
    )  # fmt: skip
    try:
        return InterleavedDocument(tuple(walk.run(tree.body)), metadata)
    except TooManyImages:
        return Dropped("too_many_images", f"more than {max_images} images")


def _check_options(boilerplate: Any, prefer: Any) -> None:
    if boilerplate not in ("tags", "none") and not callable(boilerplate):
        raise ValueError(f"boilerplate is {boilerplate!r}, wanted 'tags', 'none' or a function of tag and attributes")
    if prefer not in ("first", "largest"):
        raise ValueError(f"prefer is {prefer!r}, wanted 'first' or 'largest'")


def _well_formed(page: str) -> str:
    """Text that can be written as UTF-8, which half of a surrogate pair cannot."""
    try:
        page.encode()
    except UnicodeEncodeError:
        return page.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return page


def _title(tree: Any) -> dict[str, str]:
    found = tree.css_first("title")
    title = "" if found is None else " ".join(found.text().split())
    return {"title": title} if title else {}


def _base(tree: Any, url: str) -> str:
    """The first `<base href>` that leads to the web, else the page itself."""
    for element in tree.css("base[href]"):
        try:
            found: str = urljoin(url, (element.attributes.get("href") or "").strip())
            if urlsplit(found).scheme in ("http", "https"):
                return found
        except ValueError:  # brackets that hold no address
            continue
    return url


def _left_out(tree: Any, boilerplate: BoilerplateRule) -> Iterable[int]:
    """Elements that are hidden, or by their attributes no content; the parser finds them faster than the walk."""
    drops_tags = boilerplate == "tags"
    for node in tree.css(f"{MAY_BE_HIDDEN}, {MAY_BE_BOILERPLATE}" if drops_tags else MAY_BE_HIDDEN):
        attributes = node.attributes
        if is_hidden(attributes) or (drops_tags and is_boilerplate(node.tag, attributes)):
            yield node.mem_id
