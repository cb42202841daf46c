"""One prediction as one line of JSON, and back, strictly."""

import json
import re
from dataclasses import fields
from math import isfinite
from typing import Any, get_args

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import Prediction, StoppedBy

NAMES = tuple(field.name for field in fields(Prediction))
_TEXTS = ("task", "id", "control", "prompt", "answer")
_COUNTS = ("shots", "text_shots", "dropped_shots")
_LISTS = ("shot_ids", "log_probs", "num_tokens")
# Halves of a pair, which no UTF-8 can hold, and what other programs take for the end of a line.
_ESCAPED = re.compile("[\ud800-\udfff\u0085\u2028\u2029]")
_TWO_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_DIGITS = re.compile("([0-9]+)")


def line_of(prediction: Prediction) -> bytes:
    """A prediction as a line, with its line break; equal predictions give equal bytes.

    Args:
        prediction: What was answered.

    Raises:
        EvaluationError: If it holds what could not be read again, such as a log-probability that is not finite.

    Example:
        >>> line_of(Prediction(task="t", id="7", shots=0, seed=0, answer="a net"))[:39]
        b'{"task": "t", "id": "7", "shots": 0, "s'
    """
    values = {name: getattr(prediction, name) for name in NAMES}
    for name in _LISTS:
        values[name] = list(values[name])
    checked = prediction_of(values, f"prediction {prediction.key}")
    values["log_probs"] = list(checked.log_probs)
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    if _TWO_HALVES.search(text):
        raise EvaluationError(
            f"prediction {prediction.key}: a text holds the two halves of one character side by side; join them first"
        )
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def read_line(line: bytes, place: str) -> Prediction:
    """A line as a prediction.

    Args:
        line: One JSON object.
        place: File and line, as an error names them.

    Raises:
        EvaluationError: Naming the place, the key, and what was found.

    Example:
        >>> read_line(b'{"task": 3}', "predictions.jsonl, line 1")
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: predictions.jsonl, line 1: has no 'id', 'shots', 'seed', 'control', \
'shot_ids', 'text_shots', 'dropped_shots', 'prompt', 'raw', 'answer', 'stopped_by', 'log_probs', 'num_tokens'
    """
    try:
        values = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{place}: is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise EvaluationError(f"{place}: holds {told(values)}, wanted an object")
    return prediction_of(values, place)


def prediction_of(values: dict[str, Any], place: str) -> Prediction:
    """A prediction of values that are checked one by one.

    Args:
        values: By the names of its fields, each of which has to be there, and no other.
        place: What an error calls it.

    Raises:
        EvaluationError: Naming the place, the key, and what was found.
    """
    if missing := [name for name in NAMES if name not in values]:
        raise EvaluationError(f"{place}: has no {', '.join(map(repr, missing))}")
    if unknown := sorted(set(values) - set(NAMES)):
        raise EvaluationError(f"{place}: has {unknown[0]!r}, which no prediction has; it has {', '.join(NAMES)}")
    for name in _TEXTS:
        _want(isinstance(values[name], str), values, name, "a text", place)
    for name in _COUNTS:
        _want(is_whole(values[name]) and values[name] >= 0, values, name, "a whole number, 0 or more", place)
    _want(is_whole(values["seed"]), values, "seed", "a whole number", place)
    _want(isinstance(values["raw"], str | None), values, "raw", "a text or null", place)
    reasons = (None, *get_args(StoppedBy))
    _want(values["stopped_by"] in reasons, values, "stopped_by", f"one of {', '.join(map(str, reasons))}", place)
    shot_ids = _list(values, "shot_ids", str, "a list of texts", place)
    log_probs = _list(values, "log_probs", float, "a list of finite numbers", place)
    num_tokens = _list(values, "num_tokens", int, "a list of whole numbers", place)
    if num_tokens and len(num_tokens) != len(log_probs):
        raise EvaluationError(
            f"{place}: num_tokens has {len(num_tokens)} numbers, log_probs {len(log_probs)}; one for each candidate"
        )
    return Prediction(**{**values, "shot_ids": shot_ids, "log_probs": log_probs, "num_tokens": num_tokens})


def natural_key(prediction: Prediction) -> tuple[Any, ...]:
    """What files are sorted by: the key, with the numbers inside of ids compared as numbers.

    Args:
        prediction: What was answered.

    Example:
        >>> ids = ["10", "q10", "9", "q9"]
        >>> predictions = [Prediction(task="t", id=each, shots=0, seed=0) for each in ids]
        >>> [each.id for each in sorted(predictions, key=natural_key)]
        ['9', '10', 'q9', 'q10']
    """
    parts = _DIGITS.split(prediction.id)  # text, digits, text, .. : places of one kind are compared with their like
    natural = tuple(_as_number(part) if place % 2 else part for place, part in enumerate(parts))
    return (*prediction.key[:-1], natural, prediction.id)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return is_whole(value) or (isinstance(value, float) and isfinite(value))


def told(value: Any) -> str:
    """A value with its type, as errors show it."""
    return "null" if value is None else f"{value!r:.60} of type {type(value).__name__}"


def _as_number(digits: str) -> tuple[int, str]:
    """Compares as the number does; `int` refuses digits by the thousand."""
    return len(digits.lstrip("0")), digits.lstrip("0")


def _list(values: dict[str, Any], name: str, kind: type, wanted: str, place: str) -> tuple[Any, ...]:
    found = values[name]
    _want(isinstance(found, list), values, name, wanted, place)
    fits = {str: lambda each: isinstance(each, str), int: is_whole, float: is_number}[kind]
    for at, each in enumerate(found):
        if not fits(each):
            raise EvaluationError(f"{place}: {name}[{at}] is {told(each)}, wanted {wanted}")
    return tuple(float(each) + 0.0 for each in found) if kind is float else tuple(found)  # -0.0 equals 0.0: one text


def _want(fits: bool, values: dict[str, Any], name: str, wanted: str, place: str) -> None:  # noqa: FBT001 - a check
    if not fits:
        raise EvaluationError(f"{place}: {name} is {told(values[name])}, wanted {wanted}")
