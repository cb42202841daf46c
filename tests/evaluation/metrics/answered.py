"""Items and what was answered to them, as the tests of metrics write them."""

import importlib.util
from pathlib import Path

import pytest

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction


def item(answers=(), *, name="0", **facts):
    """An item without media."""
    return TaskItem(id=name, media=(), answers=tuple(answers), facts=facts)


def said(answer="", *, name="0", **rest):
    """A prediction."""
    return Prediction(task="task", id=name, shots=0, seed=0, answer=answer, **rest)


def pairs(rows):
    """Items and predictions of `(answers, answer)`, with their places as ids."""
    items = [item(answers, name=str(place)) for place, (answers, _) in enumerate(rows)]
    return items, [said(answer, name=str(place)) for place, (_, answer) in enumerate(rows)]


def peer_file(package, file):
    """A module of a package that is not imported; the test is skipped where the package is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    spec = importlib.util.spec_from_file_location(f"peer_{package}", Path(found.origin).parent / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
