"""A file of one JSON object a step, that a run may be killed over and go on with."""

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # JSON itself has none of these


class StepLines:
    """Appends a line a step; what a killed run wrote after the step that comes next is cut off first.

    A line is handed to the system in one piece, so a process that is killed leaves whole lines; a torn last line (of a
    machine that lost its power, or a full disk) is cut as well. Nothing is lost by it: what is cut goes to a file of
    the same name with `.cut` before its suffix.

    Args:
        path: The file; its folder is made.

    Example:
        >>> lines = StepLines(Path("metrics.jsonl"))
        >>> for step in (0, 1, 2):
        ...     lines.append({"step": step})
        >>> again = StepLines(Path("metrics.jsonl"))  # of a run that goes on behind step 0
        >>> again.append({"step": 1})
        >>> [line["step"] for line in read_metrics("metrics.jsonl")]
        [0, 1]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: int | None = None

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line.

        Args:
            line: Has a `step`; numbers that are not finite are written as `"NaN"`, `"Infinity"` and `"-Infinity"`.

        Raises:
            OSError: If it cannot be written, on a full disk for example; a torn line goes before the next is written.
        """
        if self._last is None or line["step"] <= self._last:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut(line["step"])
        text = json.dumps(_written(line), ensure_ascii=False, allow_nan=False)
        # Half of a surrogate pair, which a model may write, becomes the escape that JSON has for it.
        data = text.encode(errors="backslashreplace") + b"\n"
        self._last = None  # until all of it is written: what is torn is cut before the next
        with self.path.open("ab", buffering=0) as file:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._last = line["step"]

    def _cut(self, step: int) -> None:
        """Leave whole lines of earlier steps alone in the file."""
        if not self.path.exists():
            return
        kept = 0
        with self.path.open("rb") as file:
            for line in file:
                found = _step_of(line)
                if found is None or found >= step:
                    break
                kept += len(line)
            file.seek(kept)
            rest = file.read()
        if rest:
            with self.path.with_name(f"{self.path.stem}.cut{self.path.suffix}").open("ab") as cut:
                cut.write(rest if rest.endswith(b"\n") else rest + b"\n")
            with self.path.open("rb+") as file:
                file.truncate(kept)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    r"""Read a file of one JSON object a step, of a run that goes on, has ended, or was killed.

    Args:
        path: Such as `metrics.jsonl` of a `RunLog`.

    Returns:
        The lines in order; a last line that is not whole is left out.

    Raises:
        ValueError: If a line before the last is no JSON object with a step.

    Example:
        >>> _ = Path("metrics.jsonl").write_text('{"step": 0, "grad_norm": "NaN"}\n{"st')
        >>> read_metrics("metrics.jsonl")
        [{'step': 0, 'grad_norm': nan}]
    """
    lines = Path(path).read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if _step_of(line) is None and number < len(lines):
            raise ValueError(
                f"line {number} of {path} is {line[:80]!r}, wanted a JSON object with a step; cut the file there, or "
                "let a run that goes on do it"
            )
    found = [json.loads(line) for line in lines if _step_of(line) is not None]
    # A text may be one of the words for numbers too.
    return [{key: part if key == "texts" else _read(part) for key, part in line.items()} for line in found]


def _step_of(line: bytes) -> int | None:
    """The step of a whole line."""
    try:
        step = json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def _written(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _written(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(part) for key, part in value.items()}
    return _NUMBERS.get(value, value) if isinstance(value, str) else value
