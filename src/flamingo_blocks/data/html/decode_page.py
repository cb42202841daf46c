"""The bytes of a page to text: what the page says of its encoding first, a look at the bytes last."""

import codecs
import re

from flamingo_blocks._optional import require

_LOOKED_AT = 1024  # bytes in which a declaration must stand, as the HTML standard says
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
_DECLARED = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_OF_HEADER = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
# What browsers read where another name stands: the pages mean the larger table (encoding.spec.whatwg.org).
LABELS = {
    **dict.fromkeys(("iso-8859-1", "latin-1", "latin1", "l1", "ascii", "us-ascii", "ansi_x3.4-1968"), "windows-1252"),
    **dict.fromkeys(("iso8859-1", "iso_8859-1", "cp819", "x-cp1252"), "windows-1252"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "chinese", "gb_2312", "gb_2312-80"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "korean", "ksc5601", "windows-949"), "cp949"),
    **dict.fromkeys(("iso-8859-9", "latin5", "l5"), "windows-1254"),
    **dict.fromkeys(("tis-620", "iso-8859-11", "windows-874"), "cp874"),
    **dict.fromkeys(("big5", "big5-hkscs", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("unicode", "utf-16", "ucs-2"), "utf-16-le"),
    "x-user-defined": "windows-1252",
}


def decode_page(page: bytes, *, content_type: str | None = None) -> str:
    r"""The text of a page.

    A byte order mark tells the encoding; then the header it was served with, then what it declares of itself; then a
    look at its bytes. Bytes that the encoding does not have become U+FFFD.

    Args:
        page: The bytes.
        content_type: Header of that name, such as `text/html; charset=koi8-r`, or the name of an encoding alone.

    Returns:
        The text, without the mark.

    Raises:
        MissingDependencyError: If `resiliparse` is missing and the page does not tell its encoding.

    Example:
        >>> decode_page(b"caf\xe9", content_type="text/html; charset=latin-1")
        'café'

    Source:
        HTML, "Determining the character encoding" (html.spec.whatwg.org).
    """
    for mark, named in _MARKS:
        if page.startswith(mark):
            return page[len(mark) :].decode(named, "replace")
    told = _OF_HEADER.search(content_type or "")
    declared = _DECLARED.search(page[:_LOOKED_AT])
    if (encoding := _codec(told[1] if told else content_type or "")) is not None:
        return page.decode(encoding, "replace")
    if declared and (encoding := _codec(declared[1].decode("ascii"))) is not None:
        # What is read as ASCII is no UTF-16, whatever it says.
        return page.decode("utf-8" if encoding.startswith("utf-16") else encoding, "replace")
    try:
        return page.decode("utf-8")
    except UnicodeDecodeError:
        detect = require("resiliparse.parse.encoding", used_by="decode_page", extra="data").detect_encoding
        return page.decode(_codec(detect(page) or "") or "utf-8", "replace")


def _codec(name: str) -> str | None:
    """The codec of Python that reads what browsers read under a name; none for what is no encoding of text."""
    label = name.strip().lower()
    try:
        found = codecs.lookup(LABELS.get(label, label))
    except LookupError:
        return None
    is_text = found._is_text_encoding  # noqa: SLF001 - rot13 and zlib are codecs too, and nothing public tells
    return found.name if is_text and found.name not in _NOT_OF_PAGES else None


_NOT_OF_PAGES = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}
