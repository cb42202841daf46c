"""Documents in parquet files, in OBELICS's columns."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.atomic_file import WrittenFile, atomic_file
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.obelics import to_obelics
from flamingo_blocks.data.records.on_error import Found, OnError, check_on_error, documents_of
from flamingo_blocks.data.records.read_sample import read_row

ROWS_AT_ONCE = 128


def read_documents_parquet(path: str | PathLike[str], *, on_error: OnError = "raise") -> Iterator[InterleavedDocument]:
    """Read documents from a parquet file in OBELICS's columns, one after another.

    A row group is in memory at a time, however large the file.

    Args:
        path: The file.
        on_error: What becomes of rows that are broken: `"raise"`, or a function that is called with each
            `RecordError`, after which the reading goes on.

    Raises:
        RecordError: If a row or the file is broken, where `on_error` is `"raise"`.
        ValueError: If `on_error` is neither `"raise"` nor can be called.
        MissingDependencyError: If `pyarrow` is missing.

    Example:
        >>> _ = write_documents_parquet("a.parquet", [InterleavedDocument.from_parts(["a", "b"])])
        >>> [document.text for document in read_documents_parquet("a.parquet")]
        ['ab']
    """
    check_on_error(on_error)
    return documents_of(found_in_parquet(Path(path)), on_error)


def write_documents_parquet(
    path: str | PathLike[str], documents: Iterable[InterleavedDocument], *, rows_per_group: int = 1000
) -> WrittenFile:
    """Write documents of texts and image addresses to a parquet file in OBELICS's columns.

    Other columns that rows came with are written too, with the types of the first group. The file takes its name when
    it is whole and on the disk.

    Args:
        path: The file. Its folder must be there.
        documents: In order; a group of them is in memory at a time.
        rows_per_group: Rows that a reader takes into memory at once.

    Returns:
        The number of rows, and the size and sha256 of the file.

    Raises:
        ValueError: If a document has what the columns have no place for, or other columns than the first group.
        MissingDependencyError: If `pyarrow` is missing.

    Example:
        >>> write_documents_parquet("a.parquet", [InterleavedDocument.from_parts(["a"])]).records
        1
    """
    if rows_per_group < 1:
        raise ValueError(f"rows_per_group is {rows_per_group}, wanted 1 or more")
    arrow = require("pyarrow", used_by="write_documents_parquet", extra="data")
    parquet = require("pyarrow.parquet", used_by="write_documents_parquet", extra="data")
    rows = (to_obelics(document) for document in documents)
    path, count = Path(path), 0
    with atomic_file(path) as file:
        table = _table(arrow, list(islice(rows, rows_per_group)), None)
        with parquet.ParquetWriter(file, table.schema) as writer:
            while table.num_rows or not count:
                writer.write_table(table)
                count += table.num_rows
                if not table.num_rows:
                    break
                table = _table(arrow, list(islice(rows, rows_per_group)), table.schema)
        file.flush()
        with Path(file.name).open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
            size = written.tell()
    return WrittenFile(count, size, digest)


def _table(arrow: Any, rows: list[dict[str, Any]], schema: Any) -> Any:
    try:
        schema = _schema(arrow, rows) if schema is None else schema
        more = {name for row in rows for name in row} - set(schema.names)
        if more:
            raise ValueError(f"documents have the columns {sorted(more)}, which the first group had not")
        return arrow.Table.from_pylist(rows, schema=schema)
    except (arrow.ArrowException, UnicodeEncodeError) as error:
        raise ValueError(f"rows do not fit the columns of the first group: {error}") from error


def _schema(arrow: Any, rows: list[dict[str, Any]]) -> Any:
    """OBELICS's columns, and the others by what the rows hold."""
    texts, text = arrow.list_(arrow.string()), arrow.string()
    known = {"images": texts, "texts": texts, "metadata": text, "general_metadata": text}
    kinds = {}
    for name in dict.fromkeys((*known, *(name for row in rows for name in row))):
        values = [row.get(name) for row in rows]
        by_name = name in known and (known[name] is texts or all(isinstance(v, str | None) for v in values))
        kinds[name] = known[name] if by_name else arrow.array(values).type
    return arrow.schema(list(kinds.items()))


def found_in_parquet(path: Path) -> Iterator[Found]:
    """Documents and errors, in order.

    Args:
        path: The file.
    """
    arrow = require("pyarrow", used_by="read_documents_parquet", extra="data")
    parquet = require("pyarrow.parquet", used_by="read_documents_parquet", extra="data")
    broken = (arrow.ArrowException, OSError, ValueError)
    with path.open("rb") as opened:
        try:
            file = parquet.ParquetFile(opened)
            missing = {"texts", "images"} - set(file.schema_arrow.names)
        except broken as error:
            yield RecordError(f"is no parquet file: {error}", reason="file", file=path.name)
            return
        if missing:
            problem = f"has the columns {', '.join(file.schema_arrow.names)[:200]}, wanted texts and images"
            yield RecordError(problem, reason="field", file=path.name, field=min(missing))
            return
        first = 0
        for group in range(file.num_row_groups):
            try:
                for number, row in enumerate(_rows(file, group), first):
                    yield _read(row, path.name, number)
            except broken as error:
                problem = f"row group {group} cannot be read: {error}"
                yield RecordError(problem, reason="file", file=path.name, record=first)
            first += file.metadata.row_group(group).num_rows


def _rows(file: Any, group: int) -> Iterator[dict[str, Any] | Exception]:
    for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group]):
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:
            for number in range(batch.num_rows):
                try:
                    yield batch.slice(number, 1).to_pylist()[0]
                except UnicodeDecodeError as error:
                    yield error


def _read(row: dict[str, Any] | Exception, file: str, number: int) -> Found:
    if isinstance(row, Exception):
        return RecordError(f"is no UTF-8: {row}", reason="text", file=file, record=number)
    try:
        return read_row(row)
    except RecordError as error:
        return error.at(file=file, record=number)
