"""Rows of JSON, one a line: plain, or compressed by gzip or zip."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.on_error import Found
from flamingo_blocks.data.records.read_json import MAX_BYTES, as_mapping, read_json
from flamingo_blocks.data.records.read_sample import read_row

BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError)
ENDINGS = (".jsonl", ".json")


def found_in_jsonl(path: Path) -> Iterator[Found]:
    """Documents and errors of a file of lines, in order. A line is in memory at a time.

    Args:
        path: The file: `.jsonl`, `.jsonl.gz`, or a `.zip` of such files.
    """
    with path.open("rb") as file:
        if path.suffix == ".zip":
            yield from _unzipped(file, path.name)
        elif path.suffix == ".gz":
            with gzip.GzipFile(fileobj=file) as lines:
                yield from _lines(lines, path.name)
        else:
            yield from _lines(file, path.name)


def _unzipped(file: IO[bytes], name: str) -> Iterator[Found]:
    try:
        with zipfile.ZipFile(file) as archive:
            inside = [each for each in archive.namelist() if each.endswith(ENDINGS)]
            if not inside:
                yield RecordError("holds no .jsonl", reason="file", file=name)
            for each in inside:
                place = name if len(inside) == 1 else f"{name}/{each}"
                with archive.open(each) as lines:
                    yield from _lines(cast("BufferedIOBase", lines), place)
    except BROKEN as error:
        yield RecordError(f"is no zip file that can be read: {error}", reason="file", file=name)


def _lines(lines: BufferedIOBase, file: str) -> Iterator[Found]:
    number = -1
    while True:
        try:
            line = lines.readline(MAX_BYTES + 1)
            beyond = len(line) > MAX_BYTES
            rest = line
            while beyond and rest and not rest.endswith(b"\n"):
                rest = lines.readline(MAX_BYTES)
        except BROKEN as error:
            yield RecordError(f"cannot be read on: {error}", reason="file", file=file, record=number + 1)
            return
        if not line:
            return
        number += 1
        if line.strip():
            yield _read(line, file, number)


def _read(line: bytes, file: str, number: int) -> Found:
    try:
        return read_row(as_mapping(read_json(line), "row"))
    except RecordError as error:
        return error.at(file=file, record=number)
