"""What a run writes about itself while it goes on: a line a step, a bar, and TensorBoard."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.errors import MissingDependencyError
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.watching.measures import Measure
from flamingo_blocks.training.watching.step_lines import StepLines

_log = logging.getLogger(__name__)


class RunLog:
    """Writes what each step did; give it to a run as `on_step`, on every rank.

    `metrics.jsonl` is the truth: one JSON object a step, handed to the system at once, so that a run that is killed
    leaves whole lines. A run that goes on cuts off what was written behind the step it starts with; that goes to
    `metrics.cut.jsonl`. `read_metrics` reads it. Rank 0 alone writes and shows.

    Args:
        folder: The run's folder; made where it does not exist.
        measures: What is measured at intervals, such as `GateValues`, `FewShotScore` and `SampleGenerations`. Every
            rank calls them; what they give stands in the line of the step.
        steps: Length of the run, for the time left in the bar.
        tensorboard: Whether to write the same for TensorBoard, under `tensorboard` in the folder.
        progress: Whether a bar is shown; by default where standard error is a terminal and `tqdm` is installed.

    Raises:
        MissingDependencyError: If `tensorboard` or `progress` is true and its package is not installed.

    Example:
        >>> from flamingo_blocks.training.watching.step_lines import read_metrics
        >>> with RunLog("run", progress=False) as log:
        ...     log(StepReport(0, {"pages": 2.5}, 1.0, tokens={"pages": 256}, items={"pages": 5}, seconds=0.5))
        >>> read_metrics("run/metrics.jsonl")[0]["tokens_per_s"]
        512.0
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        measures: Sequence[Measure] = (),
        steps: int | None = None,
        tensorboard: bool = False,
        progress: bool | None = None,
    ) -> None:
        self.folder, self.measures, self.steps = Path(folder), tuple(measures), steps
        self._lines = StepLines(self.folder / "metrics.jsonl")
        self._make_writer = _summary_writer() if tensorboard else None
        self._tqdm = _tqdm(progress)
        self._writer: Any = None
        self._bar: Any = None

    def __call__(self, report: StepReport) -> None:
        """Write about a step.

        Args:
            report: What it did.
        """
        found = {name: value for measure in self.measures for name, value in measure(report).items()}
        if rank_of_process() != 0:
            return
        line = _line(report, found)
        try:
            self._lines.append(line)
        except OSError as error:  # no reason to end a run on all ranks; the checkpoints have their own account
            _log.warning("step %d is not in %s: %s", report.step, self._lines.path, error)
        if self._make_writer is not None:
            self._write(line)
        if self._tqdm is not None:
            self._show(report)

    def close(self) -> None:
        """Leave the bar as it stands and hand TensorBoard what it has not got yet."""
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()
        self._bar = self._writer = None

    def __enter__(self) -> "RunLog":  # noqa: PYI034 - beartype knows Self on whole classes only
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: dict[str, Any]) -> None:
        step = line["step"]
        if self._writer is None:  # what a run that was killed wrote behind this step is not shown
            assert self._make_writer is not None
            self._writer = self._make_writer(log_dir=str(self.folder / "tensorboard"), purge_step=step)
        for name, value in _flat(line):
            self._writer.add_scalar(name, value, step)
        for name, text in line.get("texts", {}).items():
            self._writer.add_text(name, text, step)

    def _show(self, report: StepReport) -> None:
        if self._bar is None:
            assert self._tqdm is not None
            self._bar = self._tqdm(
                total=self.steps, initial=report.step, unit="step", file=sys.stderr, dynamic_ncols=True
            )
        shown = {name: f"{loss:.3f}" for name, loss in report.losses.items()}
        if report.tokens_per_s:
            shown |= {"tokens/s": f"{report.tokens_per_s:,.0f}", "images/s": f"{report.items_per_s:,.0f}"}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(report.step + 1 - self._bar.n)


def _line(report: StepReport, found: dict[str, float | str]) -> dict[str, Any]:
    """What stands in `metrics.jsonl` of a step; what was measured only where there is something."""
    line: dict[str, Any] = {
        "step": report.step,
        "losses": dict(report.losses),
        "grad_norm": report.grad_norm,
        "tokens": dict(report.tokens),
        "items": dict(report.items),
        "lr": report.lr,
        "seconds": report.seconds,
        "tokens_per_s": report.tokens_per_s,
        "items_per_s": report.items_per_s,
        "skipped": report.skipped,
        "memory_bytes": _peak_memory(),
    }
    numbers = {name: value for name, value in found.items() if not isinstance(value, str)}
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    return line | ({"measured": numbers} if numbers else {}) | ({"texts": texts} if texts else {})


def _flat(line: dict[str, Any]) -> list[tuple[str, float]]:
    """The numbers of a line by the names under which TensorBoard groups them."""
    groups = {"loss": line["losses"], "tokens": line["tokens"], "items": line["items"]}
    of_groups = [(f"{group}/{name}", value) for group, values in groups.items() for name, value in values.items()]
    of_step = [
        (f"step/{name}", line[name])
        for name in ("grad_norm", "lr", "seconds", "tokens_per_s", "items_per_s", "skipped", "memory_bytes")
    ]
    return [*of_groups, *of_step, *line.get("measured", {}).items()]


def _peak_memory() -> int:
    """The most bytes that lived at once on the device so far; on a CPU, of the whole process."""
    on_device = int(torch.cuda.max_memory_allocated())  # 0, and no context is started, where none is used
    if on_device:
        return on_device
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ModuleNotFoundError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


def _summary_writer() -> Any:
    require("tensorboard", used_by="RunLog(tensorboard=True)", extra="tensorboard")
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - it imports what is optional

    return SummaryWriter


def _tqdm(progress: bool | None) -> Any:  # noqa: FBT001 - three states, handed through
    if rank_of_process() != 0 or progress is False or (progress is None and not sys.stderr.isatty()):
        return None
    try:
        return require("tqdm", used_by="RunLog(progress=True)", extra="train").tqdm
    except MissingDependencyError:
        if progress:
            raise
        return None
