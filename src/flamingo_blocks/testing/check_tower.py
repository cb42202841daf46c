"""Find out whether a vision tower keeps its promises, before a training run does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flamingo_blocks.errors import ConformanceError
from flamingo_blocks.testing._random_numbers import own_random_numbers
from flamingo_blocks.testing._tower_checks import BASIS, MUST, TELLS
from flamingo_blocks.testing._tower_subject import TowerSubject, Wrong
from flamingo_blocks.vision import VisionTower


@dataclass(frozen=True)
class TowerReport:
    """What `check_tower` found.

    Args:
        dim: Width of a patch token.
        grid: Rows and columns of patches.
        dtype: Of the tokens.
        tells: What no tower must do but users want to know, and whether this one does.

    Example:
        >>> print(TowerReport(16, (4, 4), torch.float32, {"frozen": "ok"}))
        4 x 4 patches of width 16, torch.float32
          frozen   ok
    """

    dim: int
    grid: tuple[int, int]
    dtype: torch.dtype
    tells: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{self.grid[0]} x {self.grid[1]} patches of width {self.dim}, {self.dtype}"]
        width = max(map(len, self.tells), default=0) + 2
        return "\n".join([*lines, *(f"  {name:{width}} {found}" for name, found in self.tells.items())])


def check_tower(
    tower: VisionTower,
    *,
    pictures: Sequence[Any] | None = None,
    bound: float | None = None,
    require: Sequence[str] = (),
) -> TowerReport:
    """Check that a vision tower is what the rest of the library takes it for.

    Run it once on your tower, in a test of your own; it encodes some twenty pictures and changes nothing.

    What any tower must do: prepare images of every shape into pixels that go into one batch; give `PatchTokens` of the
    width and the number that `dim` and `grid` say, in the dtype and on the device of its weights, and finite; give
    the same for the same frames, whatever frames stand beside them and in whichever order; leave the pixels as they
    are; and, where it is frozen, give no gradient and stay what it is through `.train()`. What it need not do is in
    the report: being frozen, and giving its patches row by row.

    Args:
        tower: Any tower, on any device.
        pictures: Three images or more that `tower.preprocess` takes, the first of them square, the others of other
            shapes. By default drawn RGB images as uint8 tensors `[3 height width]`.
        bound: Largest difference that counts as rounding, relative to the tokens; 1e-4 for weights in float32, 3e-2
            below.
        require: Names in the report that must be `"ok"` as well.

    Returns:
        Width, grid and dtype, and what else was seen.

    Raises:
        ConformanceError: If something fails that must hold; the message lists every finding.
        ValueError: If `require` names nothing of the report, or there are fewer than three pictures.

    Example:
        >>> from flamingo_blocks.vision import CallableTower
        >>> tower = CallableTower(torch.nn.Conv2d(3, 16, kernel_size=8, stride=8), image_size=32)
        >>> print(check_tower(tower))
        4 x 4 patches of width 16, torch.float32
          frozen       ok
          row by row   ok
    """
    if unknown := [name for name in require if name not in TELLS]:
        raise ValueError(f"require names {unknown}, wanted some of {', '.join(TELLS)}")
    if pictures is not None and len(pictures) < 3:
        raise ValueError(f"pictures holds {len(pictures)}, wanted three or more: a square one, and others beside it")
    subject = TowerSubject(tower, pictures, bound)
    with own_random_numbers(subject.state):
        wrong: dict[str, str] = {}
        for name, check in BASIS.items():  # what comes later stands on what came before
            if not wrong and (found := _finding(check, subject)) != "ok":
                wrong[name] = found
        if not wrong:
            wrong = {name: found for name, check in MUST.items() if (found := _finding(check, subject)) != "ok"}
        tells = {} if wrong else {name: _finding(check, subject) for name, check in TELLS.items()}
    wrong |= {name: tells[name] for name in require if tells.get(name, "ok") != "ok"}
    if wrong:
        listed = "".join(f"\n  {name}: {found}" for name, found in wrong.items())
        raise ConformanceError(f"{type(tower).__name__} fails {len(wrong)} of the checks:{listed}")
    return TowerReport(tower.dim, tower.grid, subject.tokens().dtype, tells)


def _finding(check: Callable[[TowerSubject], None], subject: TowerSubject) -> str:
    try:
        check(subject)
    except Wrong as problem:
        return str(problem)
    except Exception as problem:  # noqa: BLE001 - whatever a tower does; it is reported
        return f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    return "ok"
