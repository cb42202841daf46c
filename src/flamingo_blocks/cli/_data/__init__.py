"""`flamingo-blocks data <command>`: build documents from pages; look into them, count, check and convert them."""

import argparse
from typing import Any

from flamingo_blocks.cli._data import build, check, convert, show, stats

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command and the commands below it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "data",
        help="build documents from pages; look into them, count, check and convert them",
        description="Build documents from pages of the web, and look into files of documents: tar shards of ours, of "
        "img2dataset, WebVid and MMC4, OBELICS's parquet files, and lines of JSON.",
    )
    below = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (build, show, stats, check, convert):
        command.add_to(below)
