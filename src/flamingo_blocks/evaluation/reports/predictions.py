"""`predictions.jsonl`: all that was answered, one prediction a line, in an order of its own."""

import os
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports.prediction_lines import line_of, natural_key, read_line

Key = tuple[str, int, int, str, str]


def write_predictions(file: str | os.PathLike[str], predictions: Iterable[Prediction]) -> None:
    """Write predictions, sorted by their keys; the file is there whole or not at all.

    The same predictions give the same bytes, in whatever order they come: two evaluations may be compared by `cmp`.

    Args:
        file: Where to; what stood there is replaced.
        predictions: One for each key. Numbers inside of ids are sorted as numbers.

    Raises:
        EvaluationError: If a key comes twice, or a prediction holds what could not be read again.

    Example:
        >>> answers = [Prediction(task="vqav2", id=each, shots=0, seed=0, answer="yes") for each in ("10", "9")]
        >>> write_predictions("predictions.jsonl", answers)
        >>> [each.id for each in read_predictions("predictions.jsonl")]
        ['9', '10']
    """
    in_order = sorted(predictions, key=natural_key)
    for before, after in pairwise(in_order):
        if before.key == after.key:
            raise EvaluationError(f"predictions has two of the key {after.key}; each may come once")
    with atomic_file(Path(file)) as written:
        for prediction in in_order:
            written.write(line_of(prediction))


def read_predictions(file: str | os.PathLike[str]) -> list[Prediction]:
    """Read predictions, strictly.

    Args:
        file: A file as `write_predictions` writes it; the order of its lines is not looked at.

    Returns:
        The predictions in the order of the file.

    Raises:
        EvaluationError: Naming the line, the key and what was found, if a line is no prediction, the last one has no
            end, or a key comes twice.

    Example:
        >>> write_predictions("predictions.jsonl", [Prediction(task="vqav2", id="7", shots=4, seed=0)])
        >>> read_predictions("predictions.jsonl")[0].key
        ('vqav2', 4, 0, 'none', '7')
    """
    path = Path(file)
    content = file_bytes(path)
    if content and not content.endswith(b"\n"):
        number = content.count(b"\n") + 1
        raise EvaluationError(f"{path}, line {number}: has no end; the file was cut off, write it again")
    found, lines = [], dict[Key, int]()
    for number, prediction in numbered_lines(path, content):
        if prediction.key in lines:
            raise EvaluationError(
                f"{path}, line {number}: the key {prediction.key} stands in line {lines[prediction.key]} already"
            )
        lines[prediction.key] = number
        found.append(prediction)
    return found


def numbered_lines(path: Path, content: bytes) -> Iterator[tuple[int, Prediction]]:
    """The predictions of whole lines, each with its number from 1.

    Args:
        path: The file, as errors name it.
        content: Lines with their ends.

    Raises:
        EvaluationError: If a line is no prediction.
    """
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        yield number, read_line(line, f"{path}, line {number}")


def file_bytes(path: Path) -> bytes:
    """What a file holds.

    Raises:
        EvaluationError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
