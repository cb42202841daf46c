"""The text of a page as it is read: spaces collapsed, edges of blocks as line ends."""

from flamingo_blocks.data.html.page_rules import INLINE, LINE, PARAGRAPH, SEPARATORS, SPACE

_SPACES = " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0"
_OTHER_SPACES = "\t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0"
_UNSEEN = "\u200b\ufeff\xad\u2060"  # the joiners U+200C and U+200D are letters to scripts and to emoji


class PageText:
    r"""One run of text between two images, built node by node.

    A separator is written between two pieces of text only, the widest of those that are due there.

    Example:
        >>> text = PageText()
        >>> text.add(" one ")
        >>> text.edge(PARAGRAPH)
        >>> text.add("two\n three")
        >>> text.take()
        'one\n\ntwo three'
    """

    __slots__ = ("_held", "_pending", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._pending = 0
        self._held = ""  # spaces of preformatted text, whose worth the next piece tells

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def edge(self, level: int) -> None:
        """The begin or end of a block: what stands at least between the texts on both sides."""
        self._held = ""
        if level > self._pending:  # noqa: PLR1730 - a call of max costs more than all the rest
            self._pending = level

    def line_break(self) -> None:
        """One line further; at the end of a line, one paragraph."""
        self._held = ""
        self._pending = LINE if self._pending < LINE else PARAGRAPH

    def add(self, raw: str) -> None:
        """A text node."""
        if raw.isascii():
            words = raw.split()
        else:
            raw = _seen(raw)
            words = raw.split(" ") if raw.isprintable() else _plain_spaces(raw).split(" ")
            words = [word for word in words if word]
        if not words:
            if raw and not self._pending:
                self._pending = SPACE
            return
        if self._pieces:
            self._pieces.append(SEPARATORS[self._pending or raw[0] in _SPACES])
        self._pieces.append(" ".join(words))
        self._pending = SPACE if raw[-1] in _SPACES else INLINE

    def add_preformatted(self, raw: str) -> None:
        """A text node inside of `<pre>`, whose spaces and line ends stay."""
        raw = _seen(raw).replace("\xa0", " ").replace("\r\n", "\n").replace("\r", "\n")
        body = raw.rstrip()
        if not body:
            self._held += raw
            return
        line = self._held + body
        if not self._pieces or self._pending >= LINE:
            line = line.lstrip("\n")  # the edge of the block stands for it
        if self._pieces:
            self._pieces.append(SEPARATORS[self._pending])
        self._pieces.append(line)
        self._pending, self._held = INLINE, raw[len(body) :]

    def take(self) -> str:
        """The run; the next one begins."""
        text = "".join(self._pieces)
        self._pieces, self._pending, self._held = [], INLINE, ""
        return text


def _seen(raw: str) -> str:
    """Without what takes no place."""
    for unseen in _UNSEEN:
        if unseen in raw:
            raw = raw.replace(unseen, "")
    return raw


def _plain_spaces(raw: str) -> str:
    for space in _OTHER_SPACES:
        if space in raw:
            raw = raw.replace(space, " ")
    return raw
