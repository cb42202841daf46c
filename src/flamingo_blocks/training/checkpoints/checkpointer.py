"""Save a run and take it up again: whole, newest first, on any number of processes."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from torch import nn
from torch.optim import Optimizer

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints import step_folders
from flamingo_blocks.training.checkpoints.loaded import Loaded
from flamingo_blocks.training.checkpoints.manifest import DamagedError, Manifest, check_contents
from flamingo_blocks.training.checkpoints.processes import Processes
from flamingo_blocks.training.checkpoints.trained_tensors import frozen_parts

# What needs torch's own checkpoints is imported by the first call: they take a second of the processor.
_log = logging.getLogger(__name__)


class Checkpointer:
    """Keeps the checkpoints of a run in a folder: one directory a step, whole or not there.

    A checkpoint holds what trains, the optimiser's moments, and what you hand over; never a frozen weight. It is
    written beside its name, each file with its size and sha256 in a manifest, and renamed when all is on the disk: a
    run that is killed at any moment finds its newest checkpoint whole. All processes of a run make one of these and
    call the same methods in the same order; without a process group it works for one process.

    Args:
        folder: Where the checkpoints are, the same and shared for all processes; made by the first save.
        keep_last: How many of the newest stay, 1 or more.
        keep_every: Steps that this number divides stay as well.
        keep_best: Name of a metric, of which the checkpoint with the best value stays as well.
        best_is: Whether the best value is the lowest, as of a loss, or the highest.
        asynchronous: Whether `save` returns once the tensors are copied to the processor's memory, and a thread
            writes them. One save at most is under way; the next call waits for it.
        max_failures: So many saves that fail in a row raise; fewer are counted and logged, for a full disk may be
            emptied, and the older checkpoints stand. 1 to hear of each.

    Raises:
        ValueError: If one of the numbers is less than 1, or `best_is` is another word.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        >>> checkpoints = Checkpointer("run/checkpoints", asynchronous=False)
        >>> checkpoints.save(10, model, optimizer, state={"tokens": 640}, config={"lr": 0.1})
        >>> checkpoints.load(model, optimizer).state
        {'tokens': 640}
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep_last: int = 3,
        keep_every: int | None = None,
        keep_best: str | None = None,
        best_is: Literal["lowest", "highest"] = "lowest",
        asynchronous: bool = True,
        max_failures: int = 3,
    ) -> None:
        for name, value in (("keep_last", keep_last), ("keep_every", keep_every), ("max_failures", max_failures)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, wanted 1 or more")
        if best_is not in ("lowest", "highest"):
            raise ValueError(f'best_is is {best_is!r}, wanted "lowest" or "highest"')
        self.folder = Path(folder)
        self._retention = step_folders.Retention(keep_last, keep_every, keep_best, best_is)
        self._asynchronous, self._max_failures = asynchronous, max_failures
        self._failures = 0
        self._error: CheckpointError | None = None  # of the last save
        self._under_way: Future[None] | None = None
        self._known: Processes | None = None
        self._frozen: WeakKeyDictionary[nn.Module, dict[str, str | None]] = WeakKeyDictionary()

    @property
    def failures(self) -> int:
        """How many saves have failed since the last that did not, as far as is known."""
        return self._failures

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        state: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Save a step.

        Args:
            step: Updates that were made, 0 or more.
            model: Its parameters that need a gradient are saved, and the buffers of modules that have such.
            optimizer: Over these parameters.
            state: All else that the run needs to go on, the same in all processes: tokens seen, the `state_dict` of a
                `Mixture`. Of JSON's types.
            config: What decides the run, to be compared or shown. Of JSON's types.
            metrics: Numbers that say how good the model is, for `keep_best`.

        Raises:
            ValueError: If the step is negative, state or config are not of JSON's types or differ between processes, or
                the optimiser has parameters that are not the model's.
            CheckpointError: If there is a checkpoint of this step, or `max_failures` saves in a row have failed, this
                one or the one before among them.
        """
        from flamingo_blocks.training.checkpoints.save import (  # noqa: PLC0415 (see above)
            Content,
            begin,
            make_content,
            write,
        )  # fmt: skip

        if (error := self._settle()) is not None:
            self._refuse_many(error)
        final, processes = step_folders.folder_of(self.folder, step), self._processes
        what, contents = f"{final} was not saved", list[Content]()

        def gather() -> Any:
            about = {"state": state, "config": config, "metrics": metrics}
            written = {"processes": processes.number, "frozen": self._frozen_beside(model)}
            contents.append(make_content(step, model, optimizer, about, **written))
            return step, contents[0].state, contents[0].config

        told = processes.everyone(what, gather)
        if any(other != told[0] for other in told):
            raise ValueError(f"step, state or config differ between processes, wanted the same in all: {told!r:.300}")
        if processes.first(what, final.exists):
            raise CheckpointError(f"{final} is there already: it is never overwritten; remove it, or go on from it")
        try:
            processes.first(what, lambda: begin(self.folder, contents[0]))
            if self._asynchronous:
                processes.everyone(what, lambda: contents.append(contents.pop().staged()))
                self._under_way = _in_background(write, self.folder, contents[0], self._retention, processes)
            else:
                write(self.folder, contents[0], self._retention, processes)
        except CheckpointError as error:
            self._note(error)
            self._refuse_many(error)
        else:
            self._error = None
            self._failures = self._failures if self._asynchronous else 0

    def wait(self) -> None:
        """Wait until the save that is under way is on the disk; call it before the run ends.

        Raises:
            CheckpointError: If that save failed, be it the first: nothing comes after it.
        """
        self._settle()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def steps(self) -> list[int]:
        """The steps of all whole checkpoints, from the first on; sizes are compared, contents are not."""
        return sorted(self._whole())

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, None where there is none."""
        return max(self._whole(), default=None)

    def is_empty(self) -> bool:
        """Whether no step was ever saved here; damaged checkpoints count, for a run that has some is not a new one."""
        self._settle()
        return not self._processes.first(str(self.folder), lambda: step_folders.all_steps(self.folder))

    def best(self) -> int | None:
        """The step of the checkpoint whose metric `keep_best` is best, the newest of several; None without one."""
        return self._retention.best(self._whole())

    def load(
        self, model: nn.Module, optimizer: Optimizer | None = None, step: int | None = None, *, fall_back: bool = False
    ) -> Loaded:
        """Put a checkpoint into model and optimiser: all of it, or nothing where anything is wrong.

        Every file is compared with what was written, and every name, shape and dtype with what is asked for, before
        the first tensor changes. The number of processes may be another than it was. Hyper-parameters of the optimiser
        stay as they are; those that were others are told.

        Args:
            model: Of the same trained parameters and the same frozen parts, sharded or not.
            optimizer: Of the same class over the same parameters; None to take the weights alone.
            step: Which; the newest by default.
            fall_back: Take the next older whole checkpoint where the newest is damaged, and put that one aside as
                `step-NNNNNNNN.damaged`. Not for one that does not fit: that is a mistake, and no damage.

        Returns:
            What was saved beside the tensors, and what is another here than it was.

        Raises:
            CheckpointError: If there is no checkpoint, or it is damaged, does not fit, or is of a newer version.
            ValueError: If the optimiser has parameters that are not the model's.
        """
        from flamingo_blocks.training.checkpoints.load import Filled, read  # noqa: PLC0415 (see above)

        self._settle()
        what, processes = f"no checkpoint of {self.folder} was loaded", self._processes
        manifest, damages = self._newest_undamaged(what, step, fall_back=fall_back)
        folder, filled = step_folders.folder_of(self.folder, manifest.step), list[Filled]()
        processes.everyone(what, lambda: filled.append(read(folder, manifest, model, optimizer)))
        loaded = filled[0].put(processes)
        return replace(loaded, passed_over=tuple(self._put_aside(number, said) for number, said in damages.items()))

    def _newest_undamaged(self, what: str, step: int | None, *, fall_back: bool) -> tuple[Manifest, dict[int, str]]:
        """The manifest of the checkpoint to load, all its files compared, and what is wrong with newer ones."""
        processes, damages = self._processes, dict[int, str]()
        there = processes.first(what, lambda: step_folders.all_steps(self.folder))
        if step is not None and step not in there:
            raise CheckpointError(f"{what}: step is {step}, wanted one of {there}")
        for candidate in sorted((one for one in there if step is None or one <= step), reverse=True):
            found = processes.first(what, partial(_manifest_or_damage, self.folder, candidate))
            if isinstance(found, Manifest):
                said = processes.everyone(what, partial(_damage_of_share, self.folder, found, processes))
                if not any(said):
                    return found, damages
                found = "; ".join(filter(None, said))
            damages[candidate] = found
            if not fall_back:
                older = [one for one in there if one < candidate]
                raise CheckpointError(f"{what}: {found}; fall_back=True takes an older one, of {older}")
        raise CheckpointError("; ".join([what, *damages.values()]) if damages else f"{what}: it has none")

    def _put_aside(self, step: int, damage: str) -> str:
        what = f"{step_folders.folder_of(self.folder, step)} was not put aside"
        aside = self._processes.first(what, lambda: step_folders.put_aside(self.folder, step))
        if self._processes.is_first:
            _log.warning("%s; it is now %s", damage, aside)
        return f"{damage}; it is now {aside}"

    def export(
        self, model: nn.Module, folder: str | Path, *, frozen: Literal["reference", "include"] = "reference"
    ) -> None:
        """Write a `Flamingo` for `Flamingo.from_pretrained`, gathered where it is sharded.

        Args:
            model: The model; all processes call this, the first one writes.
            folder: Made if it is missing.
            frozen: As in `Flamingo.save_pretrained`.

        Raises:
            ValueError: If the model is no `Flamingo`, or `frozen` is another word.
            CheckpointError: If it fails in one of the processes.
        """
        from flamingo_blocks.training.checkpoints.export import export  # noqa: PLC0415 (see above)

        self._settle()
        export(model, Path(folder), frozen, self._processes)

    def _frozen_beside(self, model: nn.Module) -> dict[str, str | None]:
        """The fingerprint of what is frozen, which is read once: it never changes."""
        if model not in self._frozen:
            self._frozen[model] = frozen_parts(model)
        return self._frozen[model]

    @property
    def _processes(self) -> Processes:
        """Made at the first call, when the process group of the run is up."""
        if self._known is None:
            self._known = Processes()
        return self._known

    def _whole(self) -> dict[int, Manifest]:
        self._settle()
        return self._processes.first(str(self.folder), lambda: step_folders.whole_steps(self.folder))

    def _settle(self) -> CheckpointError | None:
        """Wait for the save that is under way, and give its error."""
        if self._under_way is None:
            return None
        future, self._under_way = self._under_way, None
        try:
            future.result()
        except CheckpointError as error:
            self._note(error)
            return error
        self._failures = 0
        return None

    def _note(self, error: CheckpointError) -> None:
        self._failures, self._error = self._failures + 1, error
        if self._processes.is_first:
            _log.warning("%s (%d in a row, %d are the end)", error, self._failures, self._max_failures)

    def _refuse_many(self, error: CheckpointError) -> None:
        if self._failures >= self._max_failures:
            self._error = None
            raise CheckpointError(f"{self._failures} saves in a row have failed, the last one: {error}") from error


def _in_background(function: Callable[..., None], *arguments: Any) -> Future[None]:
    """Call a function in a thread, for which the interpreter waits when it ends."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    future = executor.submit(function, *arguments)
    executor.shutdown(wait=False)
    return future


def _manifest_or_damage(root: Path, step: int) -> Manifest | str:
    try:
        return step_folders.read_whole(root, step)
    except DamagedError as error:
        return str(error)


def _damage_of_share(root: Path, manifest: Manifest, processes: Processes) -> str | None:
    try:
        share = sorted(manifest.files.items())[processes.rank :: processes.number]
        check_contents(step_folders.folder_of(root, manifest.step), share)
    except DamagedError as error:
        return str(error)
    return None
