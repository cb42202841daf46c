"""What an evaluation found, before it is written: one cell for each task, number of shots, seed and control."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flamingo_blocks.evaluation.score import Score


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The scores of one task with one number of shots, one seed and one control.

    Args:
        task: Name of the task.
        shots: Shots of each query.
        seed: Decides what was drawn.
        control: What was taken away from the model, or the baseline without one (`"baseline:majority"`); `"none"` for
            the model's own score.
        scores: The headline first.
        interval: 95 % of the headline under a bootstrap over clusters, or None.
        difference: Own score less this control's on the same queries, for controls, with its 95 % interval:
            `(difference, low, high)`.
        counts: Queries asked, scored, empty, truncated, ...; how often each thing stopped the writing.
        rates: Shares: of answers that equal a shot's (`"copy_any"`) or the last shot's (`"copy_last"`), ...
        facts: What else is known of it. How a task was run stands in `EvaluationResult.tasks`.

    Example:
        >>> cell = Cell(task="vqav2", shots=4, seed=0, scores=(Score(variant="VQA(official)", value=53.2),))
        >>> cell.control, cell.scores[0].value
        ('none', 53.2)
    """

    task: str
    shots: int
    seed: int
    control: str = "none"
    scores: tuple[Score, ...]
    interval: tuple[float, float] | None = None
    difference: tuple[float, float, float] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """All cells of an evaluation, and what was measured.

    Args:
        cells: Sorted by task, control, shots and seed.
        run: What was run: model, versions, settings, device, seconds; as it stands in `results.json`.
        tasks: For each task its title, metric, kind, number of queries and of support, and the hash of its support ids.

    Example:
        >>> cells = tuple(
        ...     Cell(task="vqav2", shots=shots, seed=0, scores=(Score(variant="VQA(official)", value=value),))
        ...     for shots, value in ((0, 49.2), (4, 53.2))
        ... )
        >>> result = EvaluationResult(cells=cells, run={}, tasks={"vqav2": {"title": "VQAv2"}})
        >>> result.cell("vqav2", 4).scores[0].value
        53.2
        >>> result.cell("vqav2", 32)
        Traceback (most recent call last):
        KeyError: "no cell of task 'vqav2' with shots=32, seed=0, control='none'; of it there are
        [(0, 0, 'none'), (4, 0, 'none')]"
    """

    cells: tuple[Cell, ...]
    run: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]

    def cell(self, task: str, shots: int, *, seed: int = 0, control: str = "none") -> Cell:
        """One cell.

        Args:
            task: Name of the task.
            shots: Number of shots.
            seed: The seed.
            control: The control.

        Raises:
            KeyError: If there is none; with those of the task that there are, or the tasks.
        """
        for cell in self.cells:
            if (cell.task, cell.shots, cell.seed, cell.control) == (task, shots, seed, control):
                return cell
        there = [(cell.shots, cell.seed, cell.control) for cell in self.cells if cell.task == task]
        known = f"of it there are {there}" if there else f"there are {sorted({cell.task for cell in self.cells})}"
        raise KeyError(f"no cell of task {task!r} with shots={shots}, seed={seed}, control={control!r}; {known}")
