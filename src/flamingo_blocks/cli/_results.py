"""Results for scripts: one JSON object on standard output."""

import argparse
import json
import math
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
    """Print a result; paths are their text, and numbers that JSON has no word for, NaN and infinity, are null.

    Args:
        values: Of plain kinds, and paths.

    Example:
        >>> print_json({"out": Path("a"), "loss": float("nan")})
        {
         "out": "a",
         "loss": null
        }
    """
    print(json.dumps(_finite(values), indent=1, default=_plain, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no place in JSON")
