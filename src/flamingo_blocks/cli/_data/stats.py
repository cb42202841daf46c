"""`flamingo-blocks data stats`: what documents are like, counted."""

import argparse
from itertools import islice
from typing import Any

from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._data._records import add_paths, read_records, told_in_one_line, warning_of_broken
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._progress import ProgressBars, counted
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.data.filters import identify_language
from flamingo_blocks.data.stats import document_stats, format_stats


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "stats",
        help="count what documents are like",
        description="Count words, images, formats, sizes, hosts, repeats and broken records, in one pass, in "
        "bounded memory. No pixel is decoded.",
        epilog=closing("flamingo-blocks data stats shards/", "flamingo-blocks data stats shards/ --languages --json"),
    )
    add_paths(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="most documents to count; all by default")
    parser.add_argument("--languages", action="store_true", help="find the language of each document too")
    add_json(parser, "the counts")
    parser.set_defaults(run=run, kept="nothing was to be written")


def run(arguments: argparse.Namespace) -> int:
    """Count, and print."""
    with told_in_one_line(), ProgressBars("documents") as bars:
        records = islice(warning_of_broken(read_records(arguments.paths)), arguments.limit)
        stats = document_stats(
            counted(records, bars, "counting"),
            identify=identify_language if arguments.languages else None,
        )
    if arguments.json:
        print_json(stats.to_json())
    else:
        print(format_stats(stats))
    return 0
