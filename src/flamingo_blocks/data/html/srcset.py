"""The `srcset` attribute of HTML: several sources of one image, each with its width or density."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SPACE = " \t\n\r\f"
_LEADING = re.compile(r"[ \t\n\r\f,]*")
_URL = re.compile(r"[^ \t\n\r\f]+")
_DESCRIPTORS = re.compile(r"(?:\([^)]*(?:\)|$)|[^,(])*")
_WIDTH, _DENSITY = re.compile(r"[0-9]{1,9}w"), re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?x")
_HEIGHT = re.compile(r"[0-9]+h")


@dataclass(frozen=True)
class SrcsetCandidate:
    """One source of an image.

    Args:
        url: As it is written.
        width: Pixels, where the source says so.
        density: Pixels of the image a pixel of the page, where the source says so.

    Example:
        >>> small, sharp = parse_srcset("small.jpg 300w, sharp.jpg 2x")
        >>> small
        SrcsetCandidate(url='small.jpg', width=300, density=None)
        >>> sharp.density
        2.0
    """

    url: str
    width: int | None = None
    density: float | None = None


def parse_srcset(value: str) -> list[SrcsetCandidate]:
    """Read a `srcset` as browsers do: a URL may hold commas, and a source with a broken descriptor is left out.

    Args:
        value: The attribute.

    Returns:
        Its sources in order.

    Example:
        >>> [candidate.url for candidate in parse_srcset("/s.jpg 300w, /l,1.jpg 900w, /x.jpg 0w")]
        ['/s.jpg', '/l,1.jpg']

    Source:
        HTML, "Parse a srcset attribute" (html.spec.whatwg.org).
    """
    found: list[SrcsetCandidate] = []
    place = 0
    while (url := _URL.match(value, _LEADING.match(value, place).end())) is not None:  # type: ignore[union-attr]
        place, name, descriptors = url.end(), url.group(), ""
        if name.endswith(","):
            name = name.rstrip(",")
        else:
            told = _DESCRIPTORS.match(value, place)
            assert told is not None
            place, descriptors = told.end(), told.group()
        candidate = _candidate(name, _split(descriptors))
        if candidate is not None:
            found.append(candidate)
    return found


def largest_candidate(candidates: Sequence[SrcsetCandidate]) -> SrcsetCandidate | None:
    """The widest source; where none tells a width, the densest, and the first of several.

    Args:
        candidates: What `parse_srcset` gave.

    Example:
        >>> largest_candidate(parse_srcset("/a.jpg, /b.jpg 2x")).url
        '/b.jpg'
    """
    if not candidates:
        return None
    if any(candidate.width is not None for candidate in candidates):
        return max(candidates, key=lambda candidate: candidate.width or 0)
    return max(candidates, key=lambda candidate: 1.0 if candidate.density is None else candidate.density)


def _split(descriptors: str) -> list[str]:
    """Descriptors between spaces; what stands in parentheses is one, which no rule of today takes."""
    return re.findall(rf"(?:\([^)]*(?:\)|$)|[^{_SPACE}(])+", descriptors)


def _candidate(url: str, descriptors: Sequence[str]) -> SrcsetCandidate | None:
    """A source with its descriptors; none where one of them is unknown, stands twice, or contradicts another."""
    width: int | None = None
    density: float | None = None
    height = False
    for descriptor in descriptors:
        if _WIDTH.fullmatch(descriptor) and width is None and density is None:
            width = int(descriptor[:-1])
            if not width:
                return None
        elif _DENSITY.fullmatch(descriptor) and width is None and density is None and not height:
            density = float(descriptor[:-1])
            if density < 0:
                return None
        elif _HEIGHT.fullmatch(descriptor) and not height and density is None:
            height = True
        else:
            return None
    return None if not url or (height and width is None) else SrcsetCandidate(url, width, density)
