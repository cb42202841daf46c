"""`flamingo-blocks data check`: what is wrong in files of documents."""

import argparse
import json
from typing import Any

from flamingo_blocks.cli._data._records import add_paths, told_in_one_line
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._progress import ProgressBars, counted
from flamingo_blocks.data.records import RecordError
from flamingo_blocks.data.records.open_documents import each_record


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="say what is wrong in files of documents",
        description="Read files of documents to their end, and name file, record and field of all that is wrong.",
        epilog=closing(
            "flamingo-blocks data check shards/",
            "flamingo-blocks data check obelics.parquet --json > errors.jsonl",
            statuses=[(1, "anything is wrong")],
        ),
    )
    add_paths(parser)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each error")
    parser.set_defaults(run=run, kept="what was found so far is printed, and nothing was to be written")


def run(arguments: argparse.Namespace) -> int:
    """Read, and print each error as it is found."""
    found = 0
    with told_in_one_line(), ProgressBars("records") as bars:
        for path in arguments.paths:
            for error in counted(each_record(path), bars, path.name):
                if not isinstance(error, RecordError):
                    continue
                found += 1
                bars.clear()
                print(_as_json(error) if arguments.json else f"{error} ({error.reason})", flush=True)
    if not arguments.json:
        print(f"{found} error{'' if found == 1 else 's'}" if found else "nothing is wrong")
    return 1 if found else 0


def _as_json(error: RecordError) -> str:
    names = ("file", "record", "field", "reason", "problem")
    return json.dumps({name: getattr(error, name) for name in names})
