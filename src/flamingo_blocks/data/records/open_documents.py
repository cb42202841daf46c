"""Files of documents of any kind that is known."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from flamingo_blocks.data._tar_files.shard_reader import ShardReader
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.jsonl_files import found_in_jsonl
from flamingo_blocks.data.records.on_error import Found, OnError, check_on_error, documents_of
from flamingo_blocks.data.records.parquet_files import found_in_parquet
from flamingo_blocks.data.records.read_sample import read_sample

ENDINGS = (".tar", ".parquet", ".jsonl", ".jsonl.gz", ".zip")


def open_documents(path: str | PathLike[str], *, on_error: OnError = "raise") -> Iterator[InterleavedDocument]:
    r"""Read documents from a file or a folder of files, one after another.

    Reads tar shards of ours, of img2dataset and WebVid, and of OpenFlamingo's MMC4; parquet files in OBELICS's
    columns; and lines of JSON of MMC4, OBELICS or ours, plain, by gzip or by zip.

    Args:
        path: A `.tar`, `.parquet`, `.jsonl`, `.jsonl.gz` or `.zip`; or a folder, whose files of these kinds are read in
            the order of their names. A parquet file with the name of a tar file is a table about it, and no record.
        on_error: What becomes of records that are broken, and of files that were cut off: `"raise"`, or a function that
            is called with each `RecordError`, after which the reading goes on.

    Raises:
        RecordError: If a record or a file is broken, where `on_error` is `"raise"`.
        ValueError: If there is no file of these kinds.
        MissingDependencyError: If it is a parquet file and `pyarrow` is missing.

    Example:
        >>> _ = Path("a.jsonl").write_text('{"texts": ["a"], "images": [null]}\n{"texts": ["b"]}\n')
        >>> found = []
        >>> [document.text for document in open_documents("a.jsonl", on_error=found.append)]
        ['a']
        >>> print(found[0])
        a.jsonl, record 1, field images: is missing, wanted a list
    """
    check_on_error(on_error)
    return documents_of(each_record(path), on_error)


def each_record(path: str | PathLike[str]) -> Iterator[Found]:
    """Documents, and in their places errors, in the order of the files.

    Args:
        path: As for `open_documents`.
    """
    files = _files(Path(path))
    return (found for file in files for found in _found(file))


def check_file(path: str | PathLike[str]) -> Iterator[RecordError]:
    """Everything that is wrong in a file of documents, or in a folder of them.

    Args:
        path: As for `open_documents`.

    Returns:
        The errors, each with its file, record and field, in the order of the file; none for a file that is sound.

    Raises:
        ValueError: If there is no file of these kinds.

    Example:
        >>> _ = Path("a.jsonl").write_text('{"texts": ["a", "b"], "images": [null]}')
        >>> for error in check_file("a.jsonl"):
        ...     print(error)
        a.jsonl, record 0, field images: has 1 places and texts 2, wanted as many
    """
    return (found for found in each_record(path) if isinstance(found, RecordError))


def _files(path: Path) -> list[Path]:
    wanted = f"wanted one of {', '.join(ENDINGS)}"
    if not path.exists():
        raise ValueError(f"path is {str(path)!r}, where there is nothing")
    if not path.is_dir():
        if not path.name.endswith(ENDINGS):
            raise ValueError(f"path is {str(path)!r}, {wanted}")
        return [path]
    there = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS) and not file.name.startswith("."))
    tars = {file.stem for file in there if file.suffix == ".tar"}
    files = [file for file in there if not (file.suffix == ".parquet" and file.stem in tars)]
    if not files:
        below = next((folder for folder in sorted(path.glob("*/")) if any(folder.glob("*.tar"))), None)
        hint = "" if below is None else f"; there are shards in {str(below)!r}"
        raise ValueError(f"the folder {str(path)!r} holds no file of documents, {wanted}{hint}")
    return files


def _found(file: Path) -> Iterator[Found]:
    if file.suffix == ".tar":
        return _found_in_tar(file)
    return found_in_parquet(file) if file.suffix == ".parquet" else found_in_jsonl(file)


def _found_in_tar(path: Path) -> Iterator[Found]:
    reader = ShardReader(path)
    yield from reader.problems
    for number in range(len(reader)):
        try:
            sample = reader[number]
            yield read_sample(sample.key, sample.members)
        except RecordError as error:
            yield error.at(file=path.name, record=reader.keys[number])
    reader.close()
