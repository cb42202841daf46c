"""Predictions as they come, kept through a kill: one file for each process, merged in the end."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from flamingo_blocks.data.atomic_file import sync_folder
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports.prediction_lines import line_of, natural_key
from flamingo_blocks.evaluation.reports.predictions import Key, file_bytes, numbered_lines

_NAME = "journal-{process:05d}.jsonl"


class Journal:
    """A file to which one process appends its predictions, batch by batch.

    What was appended is there after SIGKILL. The line that a kill tore is cut off when the file is opened again. Only
    one process may have it open.

    Args:
        folder: Where journals are; made if it is not there.
        process: Number of the process, in the name of its file.
        fsync: Whether each batch waits until it is on the disk: it outlives the machine too, and takes milliseconds.

    Raises:
        ValueError: If `process` is negative.
        EvaluationError: If there is a file of that name that cannot be read.

    Example:
        >>> with Journal("journals", process=0) as journal:
        ...     journal.append([Prediction(task="vqav2", id="7", shots=0, seed=0, answer="yes")])
        >>> [each.answer for each in read_journals("journals")]
        ['yes']
    """

    def __init__(self, folder: str | os.PathLike[str], *, process: int = 0, fsync: bool = False) -> None:
        if process < 0:
            raise ValueError(f"process is {process}, wanted 0 or more")
        self.path, self._fsync = Path(folder) / _NAME.format(process=process), fsync
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = _whole_lines(self.path) if self.path.exists() else b""
        self._size = len(whole)
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(self._size)
        if fsync:
            sync_folder(self.path.parent)

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Add predictions; after the call they outlive the process.

        Args:
            predictions: A batch.

        Raises:
            EvaluationError: If one could not be read again; then none of the batch is added.
            OSError: If the disk is full; then none of the batch is added either.
        """
        lines = memoryview(b"".join(map(line_of, predictions)))
        size = self._size + len(lines)
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
            if self._fsync:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._size)  # or the next batch would stand behind half a line
            raise
        self._size = size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Journal":  # noqa: PYI034 - the checker of shapes refuses `Self`
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journals(folder: str | os.PathLike[str]) -> list[Prediction]:
    """The predictions of all processes.

    Args:
        folder: Where their journals are; without any, nothing was predicted.

    Returns:
        Predictions sorted by their keys. What a kill tore is left out, and what two processes answered alike is there
        once.

    Raises:
        EvaluationError: If a line other than a torn last one is no prediction, or one key has two predictions: such
            journals are of two evaluations.

    Example:
        >>> read_journals("nowhere")
        []
    """
    found: dict[Key, tuple[Prediction, str]] = {}
    for path in sorted(Path(folder).glob("journal-*.jsonl")):
        for number, prediction in numbered_lines(path, _whole_lines(path)):
            place = f"{path}, line {number}"
            before, where = found.setdefault(prediction.key, (prediction, place))
            if before != prediction:
                raise EvaluationError(
                    f"{place}: the key {prediction.key} has another prediction at {where}; the journals are of two "
                    f"evaluations, keep one of them"
                )
    return sorted((prediction for prediction, _ in found.values()), key=natural_key)


def _whole_lines(path: Path) -> bytes:
    """All up to the last line break: what is behind it was torn by a kill."""
    content = file_bytes(path)
    return content[: content.rfind(b"\n") + 1]
