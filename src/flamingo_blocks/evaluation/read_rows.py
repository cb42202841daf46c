"""Official files of tasks, read strictly: what is wrong is told with file, row and key."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from flamingo_blocks.errors import EvaluationError

T = TypeVar("T")


class Row(Mapping[str, Any]):
    """One row of a file, that says where it stands when something in it is wrong.

    Args:
        values: Its values by key.
        place: File and row, as an error names them.

    Example:
        >>> row = Row({"question": "What?", "image_id": 42}, "questions.json, questions[7]")
        >>> row.take("image_id", int)
        42
        >>> row.take("answers", list)
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: questions.json, questions[7]: has no 'answers', wanted a list; its \
keys are question, image_id
    """

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self._values, self.place = values, place

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def take(self, key: str, kind: type[T]) -> T:
        """A value that has to be there and of a kind; a whole number is a float too, a truth value no number.

        Args:
            key: Its key.
            kind: `str`, `int`, `float`, `bool`, `list` or `dict`.

        Raises:
            EvaluationError: Naming file, row, key and what was found.
        """
        if key not in self._values:
            keys = ", ".join(map(str, self._values)) or "none"
            raise EvaluationError(f"{self.place}: has no {key!r}, wanted {_named(kind)}; its keys are {keys}")
        value = self._values[key]
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"wanted {_named(kind)}")
        return value

    def text(self, key: str) -> str:
        """A text, or a whole number as text: ids are written either way.

        Args:
            key: Its key.

        Raises:
            EvaluationError: Naming file, row, key and what was found.
        """
        value = self._values.get(key)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.take(key, str)

    def rows(self, key: str) -> "list[Row]":
        """A list of objects.

        Args:
            key: Its key.

        Raises:
            EvaluationError: Naming file, row, key and what was found.
        """
        return rows_of(self.take(key, list), f"{self.place}, {key}")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts.

        Args:
            key: Its key.

        Raises:
            EvaluationError: Naming file, row, key and what was found.
        """
        values = self.take(key, list)
        for place, value in enumerate(values):
            if not isinstance(value, str):
                raise EvaluationError(f"{self.place}: {key}[{place}] is {_told(value)}, wanted a text")
        return tuple(values)

    def wrong(self, key: str, wanted: str) -> EvaluationError:
        """An error about a value, to be raised.

        Args:
            key: Its key.
            wanted: What would have been right.
        """
        return EvaluationError(f"{self.place}: {key} is {_told(self._values.get(key))}, {wanted}")


def rows_of(values: Iterable[Any], place: str) -> list[Row]:
    """Objects of a list as rows.

    Args:
        values: The list.
        place: What an error calls it.

    Raises:
        EvaluationError: If one of them is no object.
    """
    return [_row_of(value, f"{place}[{number}]") for number, value in enumerate(values)]


def read_object(file: Path) -> Row:
    """A file of one JSON object.

    Args:
        file: The file.

    Raises:
        EvaluationError: If it cannot be read, or is no object.
    """
    return _row_of(_load(file, _bytes(file)), str(file))


def read_list(file: Path) -> list[Row]:
    """A file of one JSON list of objects.

    Args:
        file: The file.

    Raises:
        EvaluationError: If it cannot be read, or is no list of objects.
    """
    value = _load(file, _bytes(file))
    if not isinstance(value, list):
        raise EvaluationError(f"{file}: holds {_told(value)}, wanted a list")
    return rows_of(value, f"{file}, row")


def read_lines(file: Path) -> list[Row]:
    """A file with one JSON object a line; empty lines are passed over.

    Args:
        file: The file.

    Raises:
        EvaluationError: If it cannot be read, or a line is no object; lines count from 1.
    """
    found = []
    for number, line in enumerate(_bytes(file).splitlines(), start=1):
        if line.strip():
            found.append(_row_of(_load(file, line, f", line {number}"), f"{file}, line {number}"))
    return found


def read_text(file: Path) -> str:
    """A file of text.

    Args:
        file: The file.

    Raises:
        EvaluationError: If it cannot be read, or is no UTF-8.
    """
    try:
        return _bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{file}: is no UTF-8 text: {error}") from error


def read_csv(file: Path, columns: Iterable[str]) -> list[Row]:
    """A file of comma-separated values with a head line; all values are texts.

    Args:
        file: The file.
        columns: Columns that have to be there.

    Raises:
        EvaluationError: If it cannot be read, lacks a column, or a row has more or fewer values than the head.
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    found: list[Row] = []
    try:
        head = next(reader, [])
        if missing := [column for column in columns if column not in head]:
            raise EvaluationError(f"{file}: has no column {missing[0]!r}; its columns are {', '.join(head) or 'none'}")
        for values in reader:
            place = f"{file}, line {reader.line_num}"
            if not values:
                continue
            if len(values) != len(head):
                raise EvaluationError(f"{place}: has {len(values)} values, the head has {len(head)}")
            found.append(Row(dict(zip(head, values, strict=True)), place))
    except csv.Error as error:
        raise EvaluationError(f"{file}, line {reader.line_num}: is no CSV: {error}") from error
    return found


def refuse_twice(places: Iterable[tuple[str, str]], what: str) -> None:
    """Refuse a key that comes twice.

    Args:
        places: Each key with the place that it stands at.
        what: What the key is, in an error.

    Raises:
        EvaluationError: Naming the key and both places.
    """
    seen: dict[str, str] = {}
    for key, place in places:
        if key in seen:
            raise EvaluationError(f"{place}: {what} {key!r} stands at {seen[key]} already; each may come once")
        seen[key] = place


def _row_of(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise EvaluationError(f"{place}: holds {_told(value)}, wanted an object")
    return Row(value, place)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        beside = sorted(path.name for path in file.parent.iterdir())[:8] if file.parent.is_dir() else None
        there = "the folder does not exist" if beside is None else f"the folder has {', '.join(beside) or 'nothing'}"
        raise EvaluationError(f"{file} is missing; {there}") from None
    except OSError as error:
        raise EvaluationError(f"{file} cannot be read: {error}") from error


def _load(file: Path, content: bytes, line: str = "") -> Any:
    # The bounds of `data.records.read_json` are for records of strangers; official files are larger than they allow.
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{file}{line}: is no JSON: {error}") from error


def _named(kind: type) -> str:
    return {
        str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
        dict: "an object",
    }[kind]  # fmt: skip


def _told(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.60} of type {type(value).__name__}"
