"""What a server says about the use of what it sends."""

from collections.abc import Collection, Iterable

ROBOTS_TAGS = ("noai", "noimageai", "noindex", "noimageindex")


def robots_refusal(headers: Iterable[str], *, refused: Collection[str] = ROBOTS_TAGS) -> str | None:
    """The first directive of `X-Robots-Tag` headers that forbids what we do.

    Args:
        headers: Their values. What is said to one robot by name, as in `googlebot: noindex`, is said to all: none of
            them is ours, and who shuts out one does not invite another.
        refused: Directives that are obeyed, in lower case; `none` counts as `noindex`.

    Example:
        >>> robots_refusal(["max-snippet: 20, NoAI"]), robots_refusal(["all"])
        ('noai', None)

    Source:
        img2dataset obeys the same four by default.
    """
    for header in headers:
        for part in header.lower().replace(":", ",").split(","):
            directive = "noindex" if part.strip() == "none" else part.strip()
            if directive in refused:
                return directive
    return None
