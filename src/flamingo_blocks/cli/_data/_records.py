"""Files of documents, as the commands read them."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flamingo_blocks.data import Dropped, InterleavedDocument
from flamingo_blocks.data.records import RecordError, open_documents
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
        broken: list[RecordError] = []
        for document in open_documents(path, on_error=broken.append):
            yield from (error.dropped() for error in broken)
            broken.clear()
            yield document
        yield from (error.dropped() for error in broken)


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
