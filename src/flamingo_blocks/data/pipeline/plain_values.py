"""What an object is made of, as plain values, so that two builds can be told apart."""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from math import isfinite
from pathlib import PurePath
from types import NoneType
from typing import Any

PLAIN = (NoneType, bool, int, float, str, bytes, PurePath, re.Pattern)


def plain_values(value: Any) -> Any:
    """Say by plain values what decides how an object works.

    A build writes this down, and is resumed under the same alone. Of a folder only its name is told: data may move.

    Args:
        value: A filter, a rule, a number; of objects their public attributes are told, of functions their names.

    Returns:
        What JSON can hold.

    Example:
        >>> from flamingo_blocks.data.filters import GopherQuality
        >>> plain_values(GopherQuality(min_words=20))["min_words"]
        20
        >>> plain_values({"b": frozenset("yx"), "a": (1, len)})
        {'a': [1, 'builtins.len'], 'b': ['x', 'y']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_values(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted((plain_values(part) for part in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain_values(part) for part in value]
    if isinstance(value, partial):
        return {"is": plain_values(value.func), "arguments": plain_values([value.args, value.keywords])}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return _plain(value) if isinstance(value, PLAIN) else {"is": plain_values(type(value)), **_attributes(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has no infinity
    return value.pattern if isinstance(value, re.Pattern) else value


def _attributes(value: Any) -> dict[str, Any]:
    names = value.__dataclass_fields__ if is_dataclass(value) else getattr(value, "__dict__", {})
    return {name: plain_values(getattr(value, name)) for name in sorted(names) if not name.startswith("_")}
