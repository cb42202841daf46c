"""`flamingo-blocks data show`: a page of documents as the model will see them."""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from flamingo_blocks.cli._arguments import natural, positive
from flamingo_blocks.cli._data._records import (
    add_paths,
    read_records,
    refuse_without_folder,
    told_in_one_line,
    warning_of_broken,
)
from flamingo_blocks.cli._data._tokenizer import load_tokenizer
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._progress import ProgressBars, counted
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.data.show import show_documents
from flamingo_blocks.types import Direction, Scope


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "show",
        help="write a page that shows documents as the model will see them",
        description="Write a page that shows documents as the model will see them: tags in their places, which image "
        "every text sees, where no loss is taken. It is one file that asks no other host. Broken records are shown "
        "with their reasons.",
        epilog=closing(
            "flamingo-blocks data show shards/00000.tar --out page.html --limit 20",
            "flamingo-blocks data show shards/ --tokenizer tokenizer/ --scope all --skip 1000",
        ),
    )
    add_paths(parser)
    parser.add_argument("--out", type=Path, default=Path("documents.html"), metavar="FILE", help="file to write")
    parser.add_argument("--limit", type=positive, default=50, metavar="N", help="most documents to show")
    parser.add_argument("--skip", type=natural, default=0, metavar="N", help="documents to pass over first")
    parser.add_argument(
        "--tokenizer", metavar="DIR_or_NAME", help="tokenizer of transformers; without one tokens are words"
    )
    parser.add_argument(
        "--media-token", metavar="TEXT", help="string of the media tag in the tokenizer (default: <image>)"
    )
    parser.add_argument(
        "--end-token", metavar="TEXT", help="string of the end of a chunk in the tokenizer (default: <EOC>)"
    )
    parser.add_argument(
        "--scope", choices=get_args(Scope), default="last", help="which images a text sees (default: %(default)s)"
    )
    parser.add_argument(
        "--direction", choices=get_args(Direction), default="previous",
        help="whether a text sees the images before it, or the next one (default: %(default)s)",
    )  # fmt: skip
    add_json(parser, "what was written")
    parser.set_defaults(run=run, kept="the page is not written, or is an earlier one")


def run(arguments: argparse.Namespace) -> int:
    """Read, and write the page."""
    if arguments.tokenizer is None and (arguments.media_token or arguments.end_token):
        arguments.parser.error("--media-token and --end-token are strings of a tokenizer; give --tokenizer too")
    refuse_without_folder(arguments.out)
    with told_in_one_line(), ProgressBars("documents") as bars:
        tokenizer, special = None, None
        if arguments.tokenizer is not None:
            tokenizer, special = load_tokenizer(
                arguments.tokenizer, media_token=arguments.media_token or "<image>",
                end_token=arguments.end_token or "<EOC>",
            )  # fmt: skip
        records = warning_of_broken(read_records(arguments.paths))
        shown = show_documents(
            islice(counted(records, bars, "reading"), arguments.skip, None), arguments.out,
            limit=arguments.limit, tokenizer=tokenizer, special=special, scope=arguments.scope,
            direction=arguments.direction,
            title=f"Documents of {', '.join(path.name for path in arguments.paths)}",
        )  # fmt: skip
    if arguments.json:
        print_json({"out": arguments.out, "documents": shown})
    else:
        print(f"Wrote {arguments.out}: {shown} document{'' if shown == 1 else 's'}")
    return 0
