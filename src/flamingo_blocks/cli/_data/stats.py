"""`flamingo-blocks data stats`: what documents are like, counted."""

import argparse
import json
from itertools import islice
from typing import Any

from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._data._records import add_paths, read_records, told_in_one_line, warning_of_broken
from flamingo_blocks.data.filters import identify_language
from flamingo_blocks.data.stats import document_stats, format_stats


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "stats",
        help="count what documents are like",
        description="Count words, images, formats, sizes, hosts, repeats and broken records, in one pass, in "
        "bounded memory. No pixel is decoded.",
        epilog="example: flamingo-blocks data stats shards/",
    )
    add_paths(parser)
    parser.add_argument("--limit", type=positive, help="most documents to count; all by default")
    parser.add_argument("--languages", action="store_true", help="find the language of each document too")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Count, and print."""
    with told_in_one_line():
        stats = document_stats(
            islice(warning_of_broken(read_records(arguments.paths)), arguments.limit),
            identify=identify_language if arguments.languages else None,
        )
    print(json.dumps(stats.to_json(), indent=1) if arguments.json else format_stats(stats))
    return 0
