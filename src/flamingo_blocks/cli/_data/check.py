"""`flamingo-blocks data check`: what is wrong in files of documents."""

import argparse
import json
from typing import Any

from flamingo_blocks.cli._data._records import add_paths, told_in_one_line
from flamingo_blocks.data.records import RecordError, check_file


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="say what is wrong in files of documents",
        description="Read files of documents to their end, and name file, record and field of all that is wrong. "
        "Anything wrong is exit status 1.",
        epilog="example: flamingo-blocks data check shards/",
    )
    add_paths(parser)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each error")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, and print each error as it is found."""
    found = 0
    with told_in_one_line():
        for path in arguments.paths:
            for error in check_file(path):
                found += 1
                print(_as_json(error) if arguments.json else f"{error} ({error.reason})", flush=True)
    if not arguments.json:
        print(f"{found} error{'' if found == 1 else 's'}" if found else "nothing is wrong")
    return 1 if found else 0


def _as_json(error: RecordError) -> str:
    names = ("file", "record", "field", "reason", "problem")
    return json.dumps({name: getattr(error, name) for name in names})
