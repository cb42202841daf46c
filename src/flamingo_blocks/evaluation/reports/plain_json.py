"""JSON that is the same for the same values, and that people can read: lists of numbers stand in one line."""

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from flamingo_blocks.errors import EvaluationError


def write_json(value: Any) -> str:
    """Values as text, ended by a line break; keys stand in the order that they come in.

    Args:
        value: What JSON can hold.

    Example:
        >>> print(write_json({"b": [1, 2.5, None], "a": [{"c": "d"}]}), end="")
        {
         "b": [1, 2.5, null],
         "a": [
          {
           "c": "d"
          }
         ]
        }
    """
    return "".join(_parts(value, "\n")) + "\n"


def read_json(content: bytes, place: str) -> Any:
    """Values of a text; numbers that are not finite are none.

    Args:
        content: The text.
        place: What an error calls it.

    Raises:
        EvaluationError: If it is no JSON, or holds `NaN` or an infinity.
    """

    def refuse(name: str) -> None:
        raise EvaluationError(f"{place}: holds {name}, which is no number")

    try:
        return json.loads(content.decode("utf-8"), parse_constant=refuse)
    except EvaluationError:
        raise
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{place}: is no JSON: {error}") from error


def plain(value: Any, place: str) -> Any:
    """Values of any kind as JSON has them, with keys sorted.

    Args:
        value: None, truth values, numbers, texts, and lists or mappings of these.
        place: What an error calls it.

    Raises:
        EvaluationError: If something in it is none of these, or no finite number.

    Example:
        >>> plain({"b": (1, 2), "a": None}, "run")
        {'a': None, 'b': [1, 2]}
        >>> plain({"a": {"b": float("nan")}}, "run")
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: run.a.b is nan, wanted a finite number
    """
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise EvaluationError(f"{place} has the key {wrong[0]!r} of type {type(wrong[0]).__name__}, wanted texts")
        return {key: plain(value[key], f"{place}.{key}") for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [plain(part, f"{place}[{at}]") for at, part in enumerate(value)]
    if value is not None and type(value) not in (bool, int, float, str):
        raise EvaluationError(
            f"{place} is {value!r:.60} of type {type(value).__name__}, wanted null, true or false, a number, a text, "
            f"or lists and mappings of these"
        )
    if isinstance(value, float) and not isfinite(value):
        raise EvaluationError(f"{place} is {value!r}, wanted a finite number")
    return value


def _parts(value: Any, end: str) -> Iterable[str]:
    """`end` is the line break with the spaces of the level that the value stands on."""
    deeper = end + " "
    if isinstance(value, dict) and value:
        for at, (key, part) in enumerate(value.items()):
            yield f"{',' if at else '{'}{deeper}{json.dumps(key)}: "
            yield from _parts(part, deeper)
        yield f"{end}}}"
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for at, part in enumerate(value):
            yield f"{',' if at else '['}{deeper}"
            yield from _parts(part, deeper)
        yield f"{end}]"
    else:
        yield json.dumps(value, allow_nan=False)
