"""Which source an image of a page has, as an absolute address."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from flamingo_blocks.data.html.srcset import largest_candidate, parse_srcset

Attributes = Mapping[str, str | None]

# Where pages keep the address of an image that a script puts in place when it scrolls into view.
PLAIN_ATTRIBUTES = (
    "src", "data-src", "data-src-fg", "data-scroll-image", "data-lateloadsrc", "data-img-src", "data-original",
    "data-gt-lazy-src", "data-lazy", "data-lazy-src", "src2", "data-original-src", "data-hi-res-src",
)  # fmt: skip
SRCSET_ATTRIBUTES = ("srcset", "data-srcset", "data-lazy-srcset")
PLACEHOLDERS = frozenset(
    ("blank", "spacer", "placeholder", "pixel", "transparent", "loading", "loader", "lazy", "1x1", "clear")
)
PICTURE_TYPES = frozenset(("image/jpeg", "image/jpg", "image/png", "image/webp"))
SMALLEST_DECLARED_PX = 3  # what is declared smaller is there to count visits

_PLAIN = re.compile(r"https?://(?!:)[^/?#\[\]@\\]+[^\\]*", re.ASCII | re.IGNORECASE)
_PIXELS = re.compile(r"[ \t\n\r\f]*\+?([0-9]{1,9})(?![0-9])(?:\.[0-9]*)?[ \t\n\r\f]*(?:px)?", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]+")
_SAFE = "!#$%&'()*+,/:;=?@[]~"


def absolute_url(base: str, url: str) -> str | None:
    """The address of a link on a page, as a browser would ask for it.

    Args:
        base: Address that links of the page start from.
        url: The link as it is written.

    Returns:
        An http(s) address without fragment, in printable ASCII; `None` where there is none.

    Example:
        >>> absolute_url("https://ex.com/a/b.html", "../sp ace.jpg#top")
        'https://ex.com/sp%20ace.jpg'
    """
    url = url.strip(" \t\n\r\f")
    if not _PRINTABLE.fullmatch(url):
        url = quote(re.sub(r"[\t\n\r]", "", url), safe=_SAFE) if url.isascii() else _without_wide(url)
    url = url.partition("#")[0]
    if not url:
        return None
    if _PLAIN.fullmatch(url):
        return url
    if url[0] == "/" and url[1:2] != "/" and "/." not in url and "\\" not in url and (origin := _origin(base)):
        return origin + url
    try:
        joined = urljoin(base, url)
        parts = urlsplit(joined)
        host = parts.hostname
    except ValueError:  # brackets that hold no address
        return None
    return joined if parts.scheme in ("http", "https") and host else None


@lru_cache(maxsize=64)
def _origin(base: str) -> str | None:
    """Scheme and host of an address of the web."""
    try:
        parts = urlsplit(base)
        host = parts.hostname
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and host else None


def _without_wide(url: str) -> str:
    """Other letters are written in percents, and in punycode within the name of a host."""
    url = re.sub(r"[\t\n\r]", "", url)
    try:
        parts = urlsplit(url)
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    except ValueError:  # of which UnicodeError is one
        return ""
    return quote(urlunsplit(parts._replace(netloc=host)).encode("utf-8", "replace"), safe=_SAFE)


def image_url(
    image: Attributes,
    sources: Sequence[Attributes] = (),
    *,
    base: str,
    prefer: Literal["first", "largest"] = "first",
) -> str | None:
    """The address of an image: its `src`, a lazy attribute, the best of a `srcset`, of a `picture` at last.

    Args:
        image: Attributes of the `img`.
        sources: Attributes of the `source` elements of the `picture` around it.
        base: Address that links of the page start from.
        prefer: `"first"` takes them in this order; `"largest"` asks a `srcset` before `src`.

    Returns:
        An absolute address; `None` for an image that has none, whose address is a placeholder, or that is declared so
        small that it only counts visits.

    Example:
        >>> image_url({"src": "/blank.gif", "data-original": "/o.png"}, base="https://ex.com/")
        'https://ex.com/o.png'
    """
    for side in ("width", "height"):
        if side in image and (size := declared_px(image[side])) is not None and size < SMALLEST_DECLARED_PX:
            return None
    for written in _written(image, sources, largest=prefer == "largest"):
        if (found := absolute_url(base, written)) is not None and not _is_placeholder(found):
            return found
    return None


def declared_px(value: str | None) -> int | None:
    """Pixels of a `width` or `height`; `None` for percents and for what is no number.

    Args:
        value: The attribute.

    Example:
        >>> declared_px("300px"), declared_px("50%"), declared_px("auto")
        (300, None, None)
    """
    if not value:
        return None
    if len(value) < 9 and value.isdecimal() and value.isascii():
        return int(value)
    found = _PIXELS.match(value)
    return int(found[1]) if found and not value.startswith("%", found.end()) else None


def _written(image: Attributes, sources: Sequence[Attributes], *, largest: bool) -> Iterator[str]:
    """Addresses as they are written, the best first."""
    if largest:
        yield from _from_sets(image, sources)
    for name in PLAIN_ATTRIBUTES:
        if name in image and (value := image[name]):
            yield value
    if not largest:
        yield from _from_sets(image, sources)


def _from_sets(image: Attributes, sources: Sequence[Attributes]) -> Iterator[str]:
    """The largest of each set of sources."""
    fit = [source for source in sources if (source.get("type") or "image/jpeg").strip().lower() in PICTURE_TYPES]
    for attributes in (image, *fit):
        for name in SRCSET_ATTRIBUTES:
            best = largest_candidate(parse_srcset(attributes.get(name) or ""))
            if best is not None:
                yield best.url


def _is_placeholder(url: str) -> bool:
    name, _, kind = url.partition("?")[0].rpartition("/")[2].lower().rpartition(".")
    return (name or kind) in PLACEHOLDERS or kind in ("svg", "svgz")
