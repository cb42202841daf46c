"""What each tag of a page does to its text, and which parts of a page are no content of it."""

from collections.abc import Callable, Mapping
from typing import Literal

# What the walk does at a tag. Up to `PARAGRAPH` it is what stands between its text and that around it. Plain numbers,
# for they are compared at every node.
INLINE, SPACE, LINE, PARAGRAPH = 0, 1, 2, 3
SKIP, IMAGE, BREAK, PRE, NOSCRIPT, HEADER, SECTION, FIGURE, LINK, BOILERPLATE = range(4, 14)
SEPARATORS = ("", " ", "\n", "\n\n")
# By rule: what stands around the text of an element.
LEVELS = (
    INLINE, SPACE, LINE, PARAGRAPH, INLINE, INLINE, INLINE, PARAGRAPH, INLINE, LINE, LINE, PARAGRAPH, INLINE, LINE,
)  # fmt: skip

_SKIPPED = (
    "script style template head svg math iframe object embed canvas audio video select datalist button textarea title "
    "dialog map frameset noframes -comment -doctype"
)
_PARAGRAPHS = "p h1 h2 h3 h4 h5 h6 blockquote dl ol ul table hr"
_LINES = (
    "address aside center dd dt div figcaption hgroup legend marquee summary li tr caption thead tbody tfoot fieldset "
    "form details option body"
)

RULES: Mapping[str, int] = {
    **dict.fromkeys(_SKIPPED.split(), SKIP),
    **dict.fromkeys(_PARAGRAPHS.split(), PARAGRAPH),
    **dict.fromkeys(_LINES.split(), LINE),
    **dict.fromkeys(("td", "th"), SPACE),
    **dict.fromkeys(("img", "amp-img"), IMAGE),
    **dict.fromkeys(("article", "main", "section"), SECTION),
    **dict.fromkeys(("nav", "footer", "aside", "menu"), BOILERPLATE),
    "br": BREAK,
    "pre": PRE,
    "noscript": NOSCRIPT,
    "header": HEADER,
    "figure": FIGURE,
    "a": LINK,
}

BoilerplateRule = Literal["tags", "none"] | Callable[[str, Mapping[str, str | None]], bool]
BOILERPLATE_ROLES = frozenset("navigation banner contentinfo search complementary dialog alert menu".split())
BOILERPLATE_TOKENS = frozenset(
    (
        "footer nav navbar menu sidebar breadcrumb breadcrumbs share social related comments cookie cookies popup "
        "modal advert ads newsletter"
    ).split()
)
# Found by the parser itself, so that the walk need not read the attributes of every element.
MAY_BE_HIDDEN = "[hidden], [style*=display i], [style*=visibility i]"
MAY_BE_BOILERPLATE = "[role], " + ", ".join(
    f"{tag}[{name}]" for tag in ("div", "section", "ul", "header") for name in ("class", "id")
)


def is_hidden(attributes: Mapping[str, str | None]) -> bool:
    """Whether a page says of an element that it is not shown; what it says to screen readers is another matter.

    Args:
        attributes: Those of the element.

    Example:
        >>> is_hidden({"style": "color: red; Display : none"}), is_hidden({"aria-hidden": "true"})
        (True, False)
    """
    if "hidden" in attributes:
        return True
    if not attributes.get("style"):
        return False
    style = "".join((attributes.get("style") or "").lower().split())
    return any(
        declaration.removesuffix("!important") in ("display:none", "visibility:hidden")
        for declaration in style.split(";")
    )


def is_boilerplate(tag: str, attributes: Mapping[str, str | None]) -> bool:
    """Whether an element is menu, footer or the like by its role, or by a word of its `class` or `id`.

    Args:
        tag: Its name.
        attributes: Those of the element.

    Example:
        >>> is_boilerplate("div", {"class": "post share"}), is_boilerplate("div", {"class": "shareholder"})
        (True, False)
    """
    if (role := attributes.get("role")) and not BOILERPLATE_ROLES.isdisjoint(role.lower().split()):
        return True
    if tag not in ("div", "section", "ul", "header"):
        return False
    words = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower().split()
    return not BOILERPLATE_TOKENS.isdisjoint(words)
