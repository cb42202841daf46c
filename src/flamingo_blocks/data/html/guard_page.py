"""Pages that a parser would spend minutes on are told before it sees them."""

import re
from functools import lru_cache

from flamingo_blocks.data.dropped import Dropped

MAX_CHARACTERS = 5_000_000
MAX_ATTRIBUTES = 300  # 5 MB of tags with 300 take lexbor 1 s, with 2,000 each 7 s
MAX_DEPTH = 3_000

# Comments and raw text are no tags. A quote counts behind "=" only, as in HTML. Nothing is read twice: what is
# possessive gives nothing back, and what is not closed reaches to the end.
_NO_TAG = r"""!--(?:-?>|.*?--!?>|.*)
    | (?=[sS])(?P<raw>(?i:script|style))(?=[\s/>]) .*? (?:</(?i:(?P=raw))|\Z)"""
_VALUE = r"""=\s*+(?:"[^"]*+"|'[^']*+')?+"""
_FLAGS = re.VERBOSE | re.DOTALL
_TAG = re.compile(
    rf"<(?:{_NO_TAG} | (?P<close>/?)(?P<name>[a-zA-Z][^\s/>]*+)(?P<attributes>(?:[^>=]++|{_VALUE})*+))", _FLAGS
)
_PIECE = 32  # characters outside of values
_ATTRIBUTE = re.compile(r"""[^\s/=][^\s/=]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s]*+))?""")
# Void tags hold nothing; the others are closed by what follows them, so they do not nest by themselves.
_FLAT = frozenset(
    (
        "area base br col embed hr img input link meta param source track wbr keygen bgsound basefont frame command "
        "image p li dt dd option optgroup tr td th thead tbody tfoot colgroup caption rp rt html head body"
    ).split()
)
_OPEN_ANYWAY = frozenset(  # what HTML opens though it is written as <div/>
    (
        "a abbr address article aside b big blockquote center code dir div dl em fieldset figure font footer form "
        "header i main menu nav nobr object ol pre s section small span strike strong sub sup table tt u ul"
    ).split()
)


def guard_page(
    html: str,
    *,
    max_characters: int = MAX_CHARACTERS,
    max_attributes: int = MAX_ATTRIBUTES,
    max_depth: int = MAX_DEPTH,
) -> Dropped | None:
    """Tell a page on which an HTML parser takes time that grows with the square of its size.

    Parsers compare each attribute of a tag with all before it, and look through all open elements at many tags: a page
    of half a megabyte can take 40 seconds.

    Args:
        html: The page.
        max_characters: Longest page that is parsed.
        max_attributes: Most attributes of a tag.
        max_depth: Most elements that are open at once. Tags that do not nest, such as `<p>` and `<li>`, do not count.

    Returns:
        Why the page is not parsed: `too_large`, `attributes` or `depth`; `None` for one that is.

    Example:
        >>> guard_page("<p>fine</p>") is None
        True
        >>> guard_page("<div>" * 4000).reason
        'depth'
    """
    if len(html) > max_characters:
        return Dropped("too_large", f"{len(html)} characters, more than {max_characters}")
    if html.count("<") - html.count("</") <= max_depth:  # so many tags at most are open at once, as on most pages
        long_tags = (tag["long"] for tag in _long_tags(max_attributes).finditer(html))
        return next((found for tag in long_tags if tag and (found := _too_many(tag, max_attributes))), None)
    depth = 0
    open_by_name: dict[str, int] = {}
    for tag in _TAG.finditer(html):
        if (name := tag["name"]) is None:
            continue
        attributes, name = tag["attributes"], name.lower()
        if len(attributes) > 2 * max_attributes and (found := _too_many(name + attributes, max_attributes)):
            return found
        if name in _FLAT or (attributes.endswith("/") and name not in _OPEN_ANYWAY):
            continue
        if not tag["close"]:
            depth += 1
            if depth > max_depth:
                return Dropped("depth", f"more than {max_depth} elements are open at <{name[:20]}>")
            open_by_name[name] = open_by_name.get(name, 0) + 1
        elif open_by_name.get(name):  # an end tag of what is not open closes nothing
            open_by_name[name] -= 1
            depth -= 1
    return None


@lru_cache(maxsize=8)
def _long_tags(max_attributes: int) -> re.Pattern[str]:
    """Tags that could have more attributes: each takes two characters besides its value."""
    pieces = max(2 * max_attributes // _PIECE, 1)
    return re.compile(rf"<(?:{_NO_TAG} | (?P<long>[a-zA-Z](?:[^>=]{{1,{_PIECE}}}+|{_VALUE}){{{pieces},}}+))", _FLAGS)


def _too_many(tag: str, max_attributes: int) -> Dropped | None:
    count = sum(1 for _ in _ATTRIBUTE.finditer(tag)) - 1  # the first is the name
    if count <= max_attributes:
        return None
    return Dropped("attributes", f"{count} attributes of <{tag.split(maxsplit=1)[0][:20]}>, more than {max_attributes}")
