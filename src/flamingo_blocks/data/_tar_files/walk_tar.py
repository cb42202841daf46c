"""The headers of a tar file one after another: ustar, GNU and pax, without touching what the members hold."""

import struct
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple
from zlib import adler32

BLOCK = 512
WINDOW = 4096  # read at once: the headers of small members lie together
MAX_EXTENSION_BYTES = 1 << 20  # a long name, or the records of a pax header
EMPTY = bytes(BLOCK)
FIELDS = struct.Struct("100s24x12s12x8sc355x")  # name, size, sum and type of a header
REGULAR, DIRECTORY, LINKS, DEVICES = b"0\x007", b"5", b"12", b"346"
LONG_NAME, LONG_LINK, PAX, PAX_OF_ALL, SPARSE = b"L", b"K", b"xX", b"g", b"S"


class TarMember(NamedTuple):
    """A regular file inside of a tar file: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


_new = tuple.__new__  # half the time of TarMember(...)


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
        self._told: dict[str, str] = {}  # by the headers before a member, of that member

    def __iter__(self) -> Iterator[TarMember | TarTrouble]:
        try:
            offset = yield from self._members()
            yield from self._after_end(offset)
        except _Broken as broken:
            yield broken.trouble

    def _members(self) -> Generator[TarMember | TarTrouble, None, int]:
        """Up to the mark of the end. Written flat, for a shard has many members and calls are what takes the time."""
        offset = window_start = 0
        window = b""
        while True:
            place = offset - window_start
            if place + BLOCK > len(window):
                window, window_start, place = self._read(WINDOW, offset), offset, 0
            header = window[place : place + BLOCK]
            if header == EMPTY:
                return offset
            if len(header) < BLOCK:
                raise _Broken("truncated_shard", f"the file ends at byte {self._size} without the mark of its end")
            name_field, size_field, sum_field, kind = FIELDS.unpack(header)
            try:
                said, size = int(sum_field.rstrip(b"\0 "), 8), int(size_field.rstrip(b"\0 "), 8)
            except ValueError:
                said, size = _octal(sum_field), _size(size_field)
            # Half of Adler's sum is the plain one, and far faster; what it does not prove is counted.
            if adler32(header) & 0xFFFF != said + sum(sum_field) - 255:
                _check_sum(header, said, offset)
            offset += BLOCK
            if kind in REGULAR and size >= 0 and not self._told:  # the common case
                name = _long_name(header) if header[345] else _text(name_field)
                if offset + size > self._size:
                    self._end(name, offset, size)
                if not name.endswith("/"):  # an old way to write a directory
                    yield _new(TarMember, (name, offset, size))
                offset += size + -size % BLOCK
            else:
                offset, found = self._special(kind, header, offset)
                if found is not None:
                    yield found

    def _end(self, name: str | None, start: int, size: int) -> int:
        """Where the next header is, after a member whose bytes are all there."""
        end = start + size
        if end > self._size:
            raise _Broken("truncated_shard", f"should end at byte {end}, and the file ends at {self._size}", name)
        return end + -size % BLOCK

    def _special(self, kind: bytes, header: bytes, start: int) -> tuple[int, TarMember | TarTrouble | None]:
        if kind in LONG_NAME + LONG_LINK + PAX + PAX_OF_ALL:
            size = _size(header[124:136])
            end = self._end(None, start, size)
            if size > MAX_EXTENSION_BYTES:
                raise _Broken("bad_header", f"a header before byte {start} has {size} bytes of names")
            self._take(kind, self._read(size, start))
            return end, None
        told, self._told = self._told, {}
        name = told.get("path", _long_name(header))
        if kind in DIRECTORY or (kind == b"\0" and name.endswith("/")):
            return start, None
        if kind in LINKS or kind in DEVICES:
            reason = "link" if kind in LINKS else "device"
            return start, TarTrouble(reason, f"is a {reason}, wanted a file", name)
        if kind == SPARSE:
            start = self._after_sparse_map(header, start)
        size = _decimal(told["size"]) if "size" in told else _size(header[124:136])
        end = self._end(name, start, size)
        if kind == SPARSE or "sparse" in told:
            return end, TarTrouble("sparse", "is a sparse file, wanted one with all of its bytes", name)
        if kind not in REGULAR:
            return end, TarTrouble("type", f"is of type {kind!r}, wanted a file", name)
        return end, None if name.endswith("/") else TarMember(name, start, size)

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


def _long_name(header: bytes) -> str:
    """A name whose folders stand in a field of their own."""
    name = _text(header[:100])
    if header[345] and header[257:263] == b"ustar\0":
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _size(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's way for eight gigabytes and more
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _refuse(field)
    return _octal(field)


def _octal(field: bytes) -> int:
    try:
        number = int(field.rstrip(b"\0 "), 8)
    except ValueError:  # something behind its end, or nothing at all
        digits = field.partition(b"\0")[0].strip()
        number = -1 if digits.strip(b"01234567") else int(digits or b"0", 8)
    return number if number >= 0 else _refuse(field)


def _decimal(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else _refuse(text)


def _refuse(field: bytes | str) -> int:
    raise _Broken("bad_header", f"a header has {field!r} where a number is wanted")


def _check_sum(header: bytes, said: int, offset: int) -> None:
    """The sum of the bytes, its own field taken as spaces; some old writers count bytes as signed."""
    others = header[:148] + header[156:]
    if said - 256 not in (sum(others), sum(others) - 256 * sum(byte > 127 for byte in others)):
        raise _Broken("bad_header", f"what stands at byte {offset} is no header of a tar file")


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
