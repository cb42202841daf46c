"""JSON from others: read within bounds, and written so that it says the same."""

import json
import re
from collections.abc import Mapping
from typing import Any

from flamingo_blocks.data.record_error import RecordError

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def read_json(text: str | bytes, *, field: str | None = None) -> Any:
    """Read JSON of a stranger.

    `NaN`, `Infinity` and `-Infinity`, which Python writes and JSON does not know, are read as floats. Numbers in
    quotation marks stay texts.

    Args:
        text: The JSON; bytes are UTF-8.
        field: Named in the error.

    Raises:
        RecordError: If it is no JSON, over 64 MiB, or nested over 64 deep.

    Example:
        >>> read_json('{"width": "640", "score": NaN}')
        {'width': '640', 'score': nan}
    """
    if len(text) > MAX_BYTES:
        raise RecordError(f"has {len(text)} bytes of JSON, wanted {MAX_BYTES} at most", reason="json_size", field=field)
    try:
        written = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        depth = _depth(written)
        value = json.loads(written) if depth <= MAX_DEPTH else None
    except ValueError as error:  # bad JSON, bad UTF-8, or a number of more digits than Python reads
        raise RecordError(f"is no JSON: {error}", reason="json", field=field) from error
    if depth > MAX_DEPTH:
        raise RecordError(f"is nested {depth} deep, wanted {MAX_DEPTH} at most", reason="json_depth", field=field)
    return value


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # as good as known
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        if bracket in ("[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in ("]", "}"):
            depth -= 1
    return deepest


def write_json(value: Any) -> str:
    """JSON on one line, the same each time, that reads as the value and that UTF-8 can hold.

    Args:
        value: What `check_json` let pass.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can hold
        return json.dumps(value, separators=(",", ":"))
    return text


def check_json(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what JSON would change without a word, or cannot hold. A tuple passes, and is read again as a list.

    Args:
        value: What is to be written.
        where: Where it stands, named in the error.
        depth: How deep it stands.

    Raises:
        ValueError: If a key is no text, or a value is none of text, number, bool, None, list and mapping, or it is
            nested too deep to be read again.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return
    if depth >= MAX_DEPTH - 8:  # what the value is written into is nested as well
        raise ValueError(f"{where} is nested over {depth} deep, which would not be read again")
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_json(item, f"{where}[{number}]", depth + 1)
        return
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - a document that cannot be written, whatever the type
            f"{where} is of type {type(value).__name__}, which JSON cannot hold; write it as text or numbers"
        )
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValueError(f"{where} has the key {key!r}, wanted a text, as JSON has it")  # noqa: TRY004 - as above
        check_json(item, f"{where}.{key}", depth + 1)


def as_mapping(value: Any, field: str) -> dict[str, Any]:
    """An object of JSON, or an error.

    Args:
        value: What was read.
        field: Named in the error.
    """
    if isinstance(value, Mapping):
        return dict(value)
    raise RecordError(f"is {told(value)}, wanted an object", reason="field", field=field)


def as_list(value: Any, field: str) -> list[Any]:
    """A list of JSON, or an error.

    Args:
        value: What was read.
        field: Named in the error.
    """
    if isinstance(value, list | tuple):
        return list(value)
    raise RecordError(f"is {told(value)}, wanted a list", reason="field", field=field)


def told(value: Any) -> str:
    """A value in a few words.

    Args:
        value: Anything.
    """
    if value is None:
        return "missing"
    return f"{value!r:.80} of type {type(value).__name__}"


def as_index(value: Any, count: int, field: str) -> int:
    """A place in a list of a length; whole numbers in quotation marks or as `3.0` are numbers here.

    Args:
        value: What was read.
        count: Length of the list.
        field: Named in the error.
    """
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    number = int(value) if digits or (isinstance(value, float) and value.is_integer()) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < count:
        raise RecordError(f"is {told(value)}, wanted a whole number below {count}", reason="index", field=field)
    return number
