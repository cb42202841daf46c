"""`flamingo-blocks explain`: what an error means and how to mend it, from pages that come with the package."""

import argparse
from importlib.resources import files
from typing import Any

from flamingo_blocks import errors
from flamingo_blocks.cli._arguments import near_word
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.errors import FlamingoBlocksError

_PAGES = files("flamingo_blocks").joinpath("error_pages")


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain",
        help="say what an error means, and what to do",
        description="Print the page on a family of errors: each message that people meet, what it means, and the fix. "
        "Without a name it lists the pages.",
        epilog=closing("flamingo-blocks explain masks", "flamingo-blocks explain ShapeError"),
    )
    parser.add_argument(
        "page", nargs="?", metavar="PAGE", help="name of a page, or of a class of errors such as ShapeError"
    )
    parser.set_defaults(run=run, kept="nothing was to be written")


def run(arguments: argparse.Namespace) -> int:
    """Print a page, or the list of them."""
    titles, classes = _titles(), _classes()
    if arguments.page is None:
        for page, title in titles.items():
            print(f"{page:13}{title} ({', '.join(name for name, its in classes.items() if its == page)})")
        return 0
    page = classes.get(arguments.page, arguments.page)
    if page not in titles:
        near = near_word(page, [*titles, *classes])
        meant = f"did you mean {near!r}?" if near is not None else f"wanted one of {', '.join(titles)}"
        raise FlamingoBlocksError(f"there is no page {page!r}; {meant}")
    print(_read(page), end="")
    return 0


def _classes() -> dict[str, str]:
    """Page of each class of errors that has one."""
    found = {name: getattr(member, "page", None) for name, member in vars(errors).items() if isinstance(member, type)}
    return {name: page for name, page in found.items() if page is not None}


def _titles() -> dict[str, str]:
    """Title of each page, by its name."""
    names = sorted(each.name.removesuffix(".md") for each in _PAGES.iterdir() if each.name.endswith(".md"))
    return {name: _read(name).partition("\n")[0].removeprefix("# ") for name in names}


def _read(page: str) -> str:
    return _PAGES.joinpath(f"{page}.md").read_text(encoding="utf-8")
