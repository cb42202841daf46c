"""The headers of a tar file one after another: ustar, GNU and pax, without touching what the members hold."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
WINDOW = 4096  # read at once: the headers of small members lie together
MAX_EXTENSION_BYTES = 1 << 20  # a long name, or the records of a pax header
EMPTY = bytes(BLOCK)
REGULAR, DIRECTORY, LINKS, DEVICES = b"0\x007", b"5", b"12", b"346"
LONG_NAME, LONG_LINK, PAX, PAX_OF_ALL, SPARSE = b"L", b"K", b"xX", b"g", b"S"


class TarMember(NamedTuple):
    """A regular file inside of a tar file: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


class TarTrouble(NamedTuple):
    """What is there and is no regular file, or is broken; after a `fatal` one nothing can be read."""

    reason: str
    detail: str
    name: str | None = None
    fatal: bool = False


class _Broken(Exception):  # noqa: N818 - it never leaves this module
    def __init__(self, reason: str, detail: str, name: str | None = None) -> None:
        self.trouble = TarTrouble(reason, detail, name, fatal=True)


class TarWalk:
    """Yields members and troubles in the order of the file.

    Args:
        read: Bytes of the file, by number and place; fewer where the file ends.
        size: Bytes of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._window, self._window_start = b"", 0
        self._told: dict[str, str] = {}  # by the headers before a member, of that member

    def __iter__(self) -> Iterator[TarMember | TarTrouble]:
        offset = 0
        try:
            while (header := self._block(offset)) != EMPTY:
                kind = header[156:157]
                if kind in REGULAR and not self._told:  # the common case; an old directory ends in a slash
                    name, size = _name(header), _size(header)
                    found: TarMember | TarTrouble | None = self._member(name, offset + BLOCK, size)
                    offset = self._end(offset + BLOCK, size, name)
                else:
                    offset, found = self._special(kind, header, offset)
                if found is not None:
                    yield found
            yield from self._after_end(offset)
        except _Broken as broken:
            yield broken.trouble

    def _block(self, offset: int) -> bytes:
        """A header whose sum is right, or an empty block."""
        start = offset - self._window_start
        if not 0 <= start <= len(self._window) - BLOCK:
            self._window, self._window_start, start = self._read(WINDOW, offset), offset, 0
        block = self._window[start : start + BLOCK]
        if len(block) < BLOCK:
            raise _Broken("truncated_shard", f"the file ends at byte {self._size} without the mark of its end")
        if block != EMPTY and not _sum_is_right(block):
            raise _Broken("bad_header", f"what stands at byte {offset} is no header of a tar file")
        return block

    def _end(self, start: int, size: int, name: str | None = None) -> int:
        """Where the next header is, after a member whose bytes are all there."""
        if start + size > self._size:
            raise _Broken(
                "truncated_shard", f"should end at byte {start + size}, and the file ends at {self._size}", name
            )
        return start + size + -size % BLOCK

    def _special(self, kind: bytes, header: bytes, offset: int) -> tuple[int, TarMember | TarTrouble | None]:
        start = offset + BLOCK
        if kind in LONG_NAME + LONG_LINK + PAX + PAX_OF_ALL:
            size = _size(header)
            end = self._end(start, size)
            if size > MAX_EXTENSION_BYTES:
                raise _Broken("bad_header", f"a header at byte {offset} has {size} bytes of names")
            self._take(kind, self._read(size, start))
            return end, None
        told, self._told = self._told, {}
        name = told.get("path", _name(header))
        if kind in DIRECTORY or (kind == b"\0" and name.endswith("/")):
            return start, None
        if kind in LINKS or kind in DEVICES:
            reason = "link" if kind in LINKS else "device"
            return start, TarTrouble(reason, f"is a {reason}, wanted a file", name)
        if kind == SPARSE:
            start = self._after_sparse_map(header, start)
        size = _decimal(told["size"]) if "size" in told else _size(header)
        end = self._end(start, size, name)
        if kind == SPARSE or "sparse" in told:
            return end, TarTrouble("sparse", "is a sparse file, wanted one with all of its bytes", name)
        if kind not in REGULAR:
            return end, TarTrouble("type", f"is of type {kind!r}, wanted a file", name)
        return end, self._member(name, start, size)

    @staticmethod
    def _member(name: str, start: int, size: int) -> TarMember | None:
        return None if name.endswith("/") else TarMember(name, start, size)

    def _take(self, kind: bytes, data: bytes) -> None:
        """What a header says of the member after it; what stands first holds, as for others that read tar files."""
        if kind == LONG_NAME:
            self._told.setdefault("path", _text(data))
        elif kind in PAX + PAX_OF_ALL:
            for key, value in _pax_records(data):
                said = "sparse" if key.startswith("GNU.sparse") else key
                if said in ("path", "size", "sparse"):
                    if kind == PAX_OF_ALL:
                        raise _Broken("bad_header", f"a header gives all members one {key}")
                    self._told.setdefault(said, value)

    def _after_sparse_map(self, header: bytes, start: int) -> int:
        more = header[482]
        while more:
            block = self._read(BLOCK, start)
            if len(block) < BLOCK:
                raise _Broken("truncated_shard", f"the file ends at byte {self._size} without the mark of its end")
            start, more = start + BLOCK, block[504]
        return start

    def _after_end(self, offset: int) -> Iterator[TarTrouble]:
        if self._told:
            yield TarTrouble(
                "truncated_shard", "the file ends after a header of a member that is not there", None, True
            )
        while data := self._read(1 << 20, offset):
            if data.strip(b"\0"):
                yield TarTrouble("data_after_end", "more follows the mark of its end, such as a second tar file")
                return
            offset += len(data)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _size(header: bytes) -> int:
    field = header[124:136]
    if field[0] & 0x80:  # GNU's way for eight gigabytes and more
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _refuse(field)
    return _octal(field)


def _octal(field: bytes) -> int:
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        return _refuse(field)
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else _refuse(text)


def _refuse(field: bytes | str) -> int:
    raise _Broken("bad_header", f"a header has {field!r} where a number is wanted")


def _sum_is_right(block: bytes) -> bool:
    """The sum of the bytes, its own field taken as spaces; some old writers count bytes as signed."""
    said = _octal(block[148:156])
    plain = sum(block) - sum(block[148:156]) + 256
    if said == plain:
        return True
    negative = sum(byte > 127 for byte in block[:148] + block[156:])
    return said == plain - 256 * negative


def _pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """Records of the form `length key=value`, each with a line end that the length counts too."""
    place = 0
    while place < len(data):
        length, space, _ = data[place : place + 20].partition(b" ")
        end = place + (int(length) if space and length.isdigit() else 0)
        record = data[place + len(length) + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if not place < end <= len(data) or record[-1:] != b"\n" or not equals:
            raise _Broken("bad_header", f"a pax header has {data[place : place + 20]!r} where a record is wanted")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        place = end
