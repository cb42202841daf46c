"""`flamingo-blocks data convert`: documents from one kind of file to another."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._data._records import (
    add_paths,
    read_records,
    refuse_without_folder,
    told_in_one_line,
)
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._progress import ProgressBars, counted
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.data import Dropped, InterleavedDocument
from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.data.records import to_members, write_documents_parquet
from flamingo_blocks.data.shards import Sample, write_shard
from flamingo_blocks.errors import FlamingoBlocksError

Documents = Iterator[InterleavedDocument]


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="write documents as another kind of file",
        description="Read files of documents of any kind, and write them as tar shards of ours with all they hold, or "
        "as OBELICS's parquet file or lines of JSON, which hold text and addresses. A broken record ends it, unless "
        "--skip-broken is said.",
        epilog=closing(
            "flamingo-blocks data convert obelics.parquet --to shards --out shards/",
            "flamingo-blocks data convert shards/ --to jsonl --out documents.jsonl --skip-broken",
        ),
    )
    add_paths(parser)
    parser.add_argument("--to", choices=_WRITERS, required=True, help="kind of file to write")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="file to write; for shards a new folder"
    )
    parser.add_argument(
        "--per-shard",
        type=positive,
        default=1000,
        metavar="N",
        help="documents of a shard, or of a row group (default: %(default)s)",
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave broken records out, and count them")
    add_json(parser, "what was written")
    parser.set_defaults(run=run, kept="nothing is written, and the same command begins anew")


def run(arguments: argparse.Namespace) -> int:
    """Read, write, and print how much it was."""
    skipped: Counter[str] = Counter()
    if arguments.out.exists():
        raise FlamingoBlocksError(f"--out is {arguments.out}, which is there already; name another")
    refuse_without_folder(arguments.out)
    with told_in_one_line(), ProgressBars("documents") as bars:
        documents = counted(_sound(arguments, skipped), bars, "writing")
        first = next(documents, None)  # a path that cannot be read leaves nothing behind
        if first is None:
            raise FlamingoBlocksError("there is no document to write")
        written = _WRITERS[arguments.to](arguments.out, chain([first], documents), arguments.per_shard)
    if arguments.json:
        print_json({"out": arguments.out, "documents": written, "left_out": skipped})
    else:
        print(f"Wrote {arguments.out}: {written} document{'' if written == 1 else 's'}")
    if skipped:
        told = ", ".join(f"{reason} {count}" for reason, count in skipped.most_common())
        print(f"flamingo-blocks: {sum(skipped.values())} broken records left out: {told}", file=sys.stderr)
    return 0


def _sound(arguments: argparse.Namespace, skipped: Counter[str]) -> Documents:
    for record in read_records(arguments.paths):
        if not isinstance(record, Dropped):
            yield record
        elif arguments.skip_broken:
            skipped[record.reason] += 1
        else:
            raise FlamingoBlocksError(f"{record.detail}; --skip-broken leaves such records out")


def _to_shards(out: Path, documents: Documents, per_shard: int) -> int:
    number = 0
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        unfinished = Path(folder) / out.name  # so that no folder of that name is ever half of it
        unfinished.mkdir()
        for shard, first in enumerate(documents):
            part = enumerate(chain([first], islice(documents, per_shard - 1)), number)
            samples = (Sample(f"{place:09d}", to_members(document)) for place, document in part)
            number += write_shard(unfinished / f"{shard:05d}.tar", samples).records
        unfinished.rename(out)
    return number


def _to_parquet(out: Path, documents: Documents, per_group: int) -> int:
    return write_documents_parquet(out, documents, rows_per_group=per_group).records


def _to_jsonl(out: Path, documents: Documents, _: int) -> int:
    number = 0
    with atomic_file(out) as file:
        for number, document in enumerate(documents, 1):
            members = to_members(document)
            if len(members) > 1:
                raise FlamingoBlocksError(
                    f"document {number - 1} holds the bytes of an image or clip, which lines of JSON have no place "
                    "for; write --to shards"
                )
            file.write(members["json"] + b"\n")
    return number


_WRITERS: dict[str, Callable[[Path, Documents, int], int]] = {
    "shards": _to_shards,
    "obelics-parquet": _to_parquet,
    "jsonl": _to_jsonl,
}
