"""Batches at which a loss or a gradient was not finite are kept, to be looked at."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.watching.step_lines import StepLines

_log = logging.getLogger(__name__)


class BadBatches:
    """Keeps the batches of steps whose gradient was not finite.

    Each rank keeps its own, since only one of them may be bad: a line in `bad_batches.jsonl` (on rank 0, and
    `bad_batches.rank1.jsonl` and so on), and the batches in `bad_batches/step-00000012.rank0.pt`, for
    `torch.load(file, weights_only=False)`.

    Args:
        folder: The run's folder.
        keep: Files kept, the newest; each is as large as the batches of a step. Lines are all kept.

    Raises:
        ValueError: If `keep` is less than 1.

    Example:
        >>> from flamingo_blocks.training.watching.step_lines import read_metrics
        >>> bad = BadBatches("run")
        >>> bad(StepReport(3, {"pages": float("nan")}, float("nan")), {"pages": torch.ones(2)})
        >>> read_metrics("run/bad_batches.jsonl")[0]["file"]
        'bad_batches/step-00000003.rank0.pt'
        >>> torch.load("run/bad_batches/step-00000003.rank0.pt")
        {'pages': tensor([1., 1.])}
    """

    def __init__(self, folder: str | Path, *, keep: int = 5) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, wanted 1 or more files")
        self.folder, self.keep = Path(folder), keep
        self._lines: StepLines | None = None

    def __call__(self, report: StepReport, batches: Mapping[str, Any]) -> None:
        """Look at a step; where all is finite nothing is done.

        Args:
            report: What the step did.
            batches: What this rank drew for it, by data set.
        """
        if report.finite:
            return
        try:
            self._keep(report, batches, rank_of_process())
        except OSError as error:  # no reason to end a run on all ranks
            _log.warning("the batches of step %d were not kept in %s: %s", report.step, self.folder, error)

    def _keep(self, report: StepReport, batches: Mapping[str, Any], rank: int) -> None:
        if self._lines is None:
            name = "bad_batches.jsonl" if rank == 0 else f"bad_batches.rank{rank}.jsonl"
            self._lines = StepLines(self.folder / name)
        path = self.folder / "bad_batches" / f"step-{report.step:08d}.rank{rank}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(dict(batches), file)
        files = path.parent.glob(f"step-*.rank{rank}.pt")
        # Those of later steps are of a run that was killed and went on before them: they go first.
        for old in sorted(files, key=lambda file: (file.name <= path.name, file.name))[: -self.keep]:
            old.unlink()
        self._lines.append(
            {
                "step": report.step,
                "rank": rank,
                "losses": report.losses,
                "grad_norm": report.grad_norm,
                "sources": _sources(batches),
                "file": f"bad_batches/{path.name}",
            }
        )


def _sources(batches: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Which source each row of a batch is of, where the batch tells it."""
    found: dict[str, list[Any]] = {}
    for name, batch in batches.items():
        for part in batch if isinstance(batch, tuple) else (batch,):
            found.setdefault(name, []).extend(getattr(part, "source", None) or ())
    return {name: sources for name, sources in found.items() if sources}
