"""Pages in the rows of parquet files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.page import MAX_PAGE_BYTES, Page

_ROWS = 64  # read at a time: pages can have megabytes


def read_pages_parquet(
    path: str | Path,
    *,
    url_column: str = "url",
    html_column: str = "html",
    content_type_column: str | None = None,
    metadata_columns: Sequence[str] = (),
    row_groups: Sequence[int] | None = None,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Iterator[Page | Dropped]:
    """Read the pages in a parquet file, one row group after another.

    Args:
        path: The file.
        url_column: Column of addresses.
        html_column: Column of pages, as bytes or as text.
        content_type_column: Column of the headers that they were served with, for pages as bytes.
        metadata_columns: Columns that become a page's `metadata`.
        row_groups: Numbers of the row groups that are read; all by default.
        max_bytes: Largest page that is kept.

    Yields:
        A page, or why it is not kept: `page_bytes`, `page_unreadable` for a row without address or page. A damaged
        file gives what could be read, and `damaged_file` at last.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing or of another kind; the error names those that there are.
        MissingDependencyError: If `pyarrow` is missing.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa, pyarrow.parquet as pq
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pq.write_table(pa.table({"url": ["https://ex.com/"], "html": ["<p>Tom"]}), f"{folder}/cats.parquet")
        ...     list(read_pages_parquet(f"{folder}/cats.parquet"))
        [Page(url='https://ex.com/', content=b'<p>Tom', content_type='utf-8', metadata={})]
    """
    path = Path(path)
    wanted = [html_column, url_column, *([content_type_column] if content_type_column else []), *metadata_columns]
    try:
        with _open(path) as file:
            _check_columns(file, path, url_column=url_column, html_column=html_column, columns=wanted)
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=row_groups, columns=wanted):
                # Text is taken as bytes: what is no UTF-8 costs a character, not a file.
                pages = batch.column(html_column).cast("binary")
                # Those that are too large stay where they are.
                sizes = require("pyarrow.compute", used_by="read_pages_parquet", extra="data").binary_length(pages)
                types = batch.column(content_type_column).to_pylist() if content_type_column else [None] * len(pages)
                if batch.schema.field(html_column).type != "binary":
                    types = ["utf-8"] * len(pages)  # whatever it was when it was fetched
                told = batch.select(list(metadata_columns)).to_pylist() if metadata_columns else [{}] * len(pages)
                for url, *rest in zip(batch.column(url_column).to_pylist(), pages, sizes, types, told, strict=True):
                    yield _page(url, *rest, path=path, max_bytes=max_bytes)
    except (_errors(), OSError, UnicodeDecodeError) as error:
        if not path.exists():
            raise
        yield Dropped("damaged_file", f"{path}: {' '.join(str(error).split())[:200]}")


def row_groups(path: Path, rows: int, *, url_column: str, html_column: str) -> Iterator[tuple[int, ...] | None]:
    """Divide a file into row groups that stand side by side and have so many rows together at most, or are one alone.

    Args:
        path: The file.
        rows: How many.
        url_column: See `read_pages_parquet`.
        html_column: See `read_pages_parquet`.

    Yields:
        Numbers of row groups; `None`, which is all, for a file that cannot be read, of which its reader says why.

    Raises:
        ValueError: If a column is missing or of another kind.
    """
    try:
        with _open(path) as file:
            columns = (url_column, html_column)
            _check_columns(file, path, url_column=url_column, html_column=html_column, columns=columns)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    except (_errors(), OSError):
        yield None
        return
    groups: list[int] = []
    number = 0
    for group, size in enumerate(sizes):
        if groups and number + size > rows:
            yield tuple(groups)
            groups, number = [], 0
        groups.append(group)
        number += size
    if groups:
        yield tuple(groups)


def _errors() -> type[Exception]:
    found: type[Exception] = require("pyarrow", used_by="read_pages_parquet", extra="data").ArrowException
    return found


def _open(path: Path) -> Any:
    parquet = require("pyarrow.parquet", used_by="read_pages_parquet", extra="data")
    return parquet.ParquetFile(path, page_checksum_verification=True)  # where there are checksums


def _check_columns(file: Any, path: Path, *, url_column: str, html_column: str, columns: Sequence[str]) -> None:
    types = {field.name: str(field.type).removeprefix("large_").removesuffix("_view") for field in file.schema_arrow}
    for column in columns:
        if column not in types:
            raise ValueError(f"{path} has no column {column!r}, it has {', '.join(map(repr, types)) or 'none'}")
    for column, kinds in ((url_column, ("string",)), (html_column, ("string", "binary"))):
        if types[column] not in kinds:
            raise ValueError(f"column {column!r} of {path} holds {types[column]}, wanted {' or '.join(kinds)}")


def _page(
    url: Any, content: Any, size: Any, content_type: Any, told: Mapping[str, Any], *, path: Path, max_bytes: int
) -> Page | Dropped:
    if not url or not content.is_valid:
        return Dropped("page_unreadable", f"a row of {path.name} has no {'page' if url else 'address'}: {url}")
    if size.as_py() > max_bytes:
        return Dropped("page_bytes", f"{url[:200]}: {size} bytes, more than {max_bytes}")
    return Page(url, content.as_py(), None if content_type is None else str(content_type), told)
