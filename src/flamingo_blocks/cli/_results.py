"""Results for scripts: one JSON object on standard output."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """The option `--json`.

    Args:
        parser: Of a command.
        what: What is printed in place of it.
    """
    parser.add_argument("--json", action="store_true", help=f"print {what} as one object of JSON")


def print_json(values: Any) -> None:
    """Print a result; paths are their text.

    Args:
        values: Of plain kinds, and paths.

    Example:
        >>> print_json({"out": Path("a")})
        {
         "out": "a"
        }
    """
    print(json.dumps(values, indent=1, default=_plain))


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no place in JSON")
