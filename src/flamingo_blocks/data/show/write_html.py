"""Text that strangers wrote, as text of a page."""

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from flamingo_blocks.data.html.image_urls import absolute_url

MAX_SHOWN = 2000  # characters of a value of metadata

# A page cannot hold control characters, and a reader should see them: their pictures stand for them.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
# Letters after these may stand anywhere on the line, so their names stand for them.
_TURNS = {code: f"[U+{code:04X}]" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_HALVES = dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # of a pair of surrogates, which no file can hold
_HALF = re.compile("[\ud800-\udfff]")
_TABLE: dict[int, int | str] = {**_PICTURES, **_TURNS, **_HALVES}


def as_text(text: str) -> str:
    """A text that a browser shows and never obeys.

    Args:
        text: Anything.

    Example:
        >>> as_text("<script>a</script>")
        '&lt;script&gt;a&lt;/script&gt;'
    """
    return html.escape(text.translate(_TABLE), quote=True)


def as_link(url: str) -> str:
    """An address to click on where it leads to the web, and else as text.

    Args:
        url: Anything.

    Example:
        >>> as_link("javascript:alert(1)")
        '<bdi>javascript:alert(1)</bdi>'
    """
    shown = f"<bdi>{as_text(_cut(url))}</bdi>"
    leads = absolute_url(url, url) if _HALF.search(url) is None else None  # of the web, or none
    return shown if leads is None else f'<a href="{as_text(leads)}" rel="noreferrer noopener nofollow">{shown}</a>'


def as_list(metadata: Mapping[str, Any]) -> str:
    """Names and values of metadata.

    Args:
        metadata: Anything under names.

    Example:
        >>> as_list({"lang": "en"})
        '<dl><dt><bdi>lang</bdi></dt><dd><bdi>en</bdi></dd></dl>'
    """
    rows = (f"<dt><bdi>{as_text(str(name))}</bdi></dt><dd>{_value(value)}</dd>" for name, value in metadata.items())
    return f"<dl>{''.join(rows)}</dl>"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return as_link(value)
    try:
        written = json.dumps(value, ensure_ascii=False, default=_kind)
    except (TypeError, ValueError, RecursionError):  # names that are no text, or a circle
        written = _kind(value)
    return f"<bdi>{as_text(_cut(written))}</bdi>"


def _kind(value: Any) -> str:
    """What stands for a value that is no plain one: its `repr` may hold its place in memory."""
    return f"({type(value).__name__})"


def _cut(text: str) -> str:
    more = len(text) - MAX_SHOWN
    return text if more <= 0 else f"{text[:MAX_SHOWN]}… ({more} characters more)"
