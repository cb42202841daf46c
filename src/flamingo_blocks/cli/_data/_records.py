"""Files of documents, as the commands read them."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flamingo_blocks.data import Dropped, InterleavedDocument
from flamingo_blocks.data.records import RecordError
from flamingo_blocks.data.records.open_documents import each_record
from flamingo_blocks.errors import FlamingoBlocksError


def add_paths(parser: argparse.ArgumentParser) -> None:
    """The files, which every command takes."""
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="a .tar, .parquet, .jsonl, .jsonl.gz or .zip, or a folder"
    )


def read_records(paths: Sequence[Path]) -> Iterator[InterleavedDocument | Dropped]:
    """Documents of files, one after another; a broken record is a `Dropped` at its place.

    Args:
        paths: Files, or folders of them.
    """
    for path in paths:
        for found in each_record(path):
            yield found.dropped() if isinstance(found, RecordError) else found


def warning_of_broken(records: Iterable[InterleavedDocument | Dropped]) -> Iterator[InterleavedDocument | Dropped]:
    """The records as they come, and at the end a line on standard error if some were broken.

    Args:
        records: As `read_records` gives them.
    """
    broken = 0
    for record in records:
        broken += isinstance(record, Dropped)
        yield record
    if broken:
        told = "flamingo-blocks: broken records: {}; flamingo-blocks data check names each"
        print(told.format(broken), file=sys.stderr)


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """What is wrong with an argument or a file, as an error that the program prints in one line."""
    try:
        yield
    except FlamingoBlocksError:
        raise
    except (OSError, ValueError) as error:
        raise FlamingoBlocksError(" ".join(str(error).split())) from error


def refuse_without_folder(out: Path) -> None:
    """Say that a file cannot be written before an hour of work, and not behind it.

    Args:
        out: The file to write.
    """
    if out.is_dir():
        raise FlamingoBlocksError(f"--out is {out}, which is a folder; name a file")
    if not out.parent.is_dir():
        raise FlamingoBlocksError(f"--out is {out}, but there is no folder {out.parent}; make it first")
