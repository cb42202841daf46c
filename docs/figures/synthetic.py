"""The pictures of `explanation/suite-that-needs-its-images.md`: what the tasks themselves show, in pixels."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic import synthetic_task

FOLDER = Path(__file__).parents[1] / "assets" / "synthetic"
SIZE, GAP, WIDER_GAP = 80, 4, 20


def draw_binding() -> Tensor:
    """Four shots and the query of one episode with two names."""
    query = synthetic_task("binding", queries=1, size=SIZE).queries[0]
    return _in_a_row([*(query.support or ())[:4], query])


def draw_others() -> Tensor:
    """A shot or two and a query of the other three tasks, one below the other."""
    matching = synthetic_task("matching", queries=1, size=SIZE).queries[0]
    operator = synthetic_task("operator_induction", queries=1, size=SIZE, digits="bars").queries[0]
    counting = synthetic_task("counting", queries=1, size=SIZE)
    rows = [
        _in_a_row([*(matching.support or ())[:2], matching]),
        _in_a_row([*(operator.support or ())[:4], operator]),
        _in_a_row([*counting.support[:4], *counting.queries]),
    ]
    width = max(row.shape[2] for row in rows)
    filled = [torch.nn.functional.pad(row, (0, width - row.shape[2], 0, GAP), value=255) for row in rows]
    return torch.cat(filled, dim=1)


def _in_a_row(items: Sequence[TaskItem]) -> Tensor:
    """The pictures of items, those of one item close to each other."""
    parts: list[Tensor] = []
    for item in items:
        parts += [_white(WIDER_GAP)] if parts else []
        for place, segment in enumerate(item.media):
            parts += [*([_white(GAP)] if place else []), segment.data]
    return torch.cat(parts, dim=2)


def _white(width: int) -> Tensor:
    return torch.full((3, SIZE, width), 255, dtype=torch.uint8)


def pictures() -> Iterable[tuple[str, Tensor]]:
    """The name of each file with its pixels."""
    yield "binding.png", draw_binding()
    yield "others.png", draw_others()


def write() -> None:
    """Write the files."""
    for name, pixels in pictures():
        height, width = pixels.shape[1:]
        content = bytes(pixels.permute(1, 2, 0).flatten().tolist())
        Image.frombytes("RGB", (width, height), content).save(FOLDER / name, optimize=True)
