"""The training loop: several weighted data sets, one update a step, and a run that goes on where it was."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import distributed, nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints import Checkpointer
from flamingo_blocks.training.checkpoints.trained_tensors import trained_buffers
from flamingo_blocks.training.draw_together import draw_together
from flamingo_blocks.training.objective import Objective, check_objectives
from flamingo_blocks.training.optim.groups import describe_groups, param_groups
from flamingo_blocks.training.optim.optimiser_table import OPTIMISERS
from flamingo_blocks.training.optim.optimisers import make_optimizer
from flamingo_blocks.training.optim.schedule import Schedule, warmup_hold_decay
from flamingo_blocks.training.ranks.gradients import averaged_over
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.stop import StopRequest, stop_on
from flamingo_blocks.training.update import update

MOST_REPORTS = 10_000  # that a result holds: a long run is read from its log
_MUST_MATCH = ("seed", "updates")  # of a configuration, with the names of its data sets: another run otherwise
_log = logging.getLogger(__name__)


@runtime_checkable
class Position(Protocol):
    """What knows where the data stand: a `Mixture`, a `DataStream`, a loader of torchdata.

    Example:
        >>> class Lines:
        ...     def __init__(self, lines):
        ...         self.lines, self.at = lines, 0
        ...
        ...     def __next__(self):
        ...         self.at += 1
        ...         return self.lines[self.at - 1]
        ...
        ...     def state_dict(self):
        ...         return {"at": self.at}
        ...
        ...     def load_state_dict(self, state, /):
        ...         self.at = state["at"]
        >>> lines, again = Lines("abc"), Lines("abc")
        >>> _ = next(lines)
        >>> position: Position = again
        >>> position.load_state_dict(lines.state_dict())
        >>> next(again)
        'b'
    """

    def state_dict(self) -> Mapping[str, Any]:
        """The position, of JSON's types."""

    def load_state_dict(self, state: Any, /) -> None:
        """Stand there again."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run.

    Args:
        model: Module to train; parameters that need no gradient stay as they are. `shard` it first for several
            processes.
        objectives: The data sets, in the order in which they are drawn from.
        steps: Number of updates.
        lr: Learning rate at schedule factor 1.
        schedule: Factor on the learning rates by step.
        weight_decay: Decay of the matrices, see `param_groups`.
        gate_lr_factor: Factor on the gates' learning rate, see `param_groups`.
        lr_factors: Factors on the learning rate by role, such as `{"lora": 10.0}`, see `param_groups`.
        betas: AdamW's decay rates; other optimisers take theirs from `optimizer_options`.
        optimizer: Name of the optimiser, see `make_optimizer`.
        optimizer_options: Further options of it.
        updates: `"accumulate"` adds up the gradients of all data sets for one update; `"round_robin"` makes an update
            for one data set a step, in turn, which the paper found to be worse.
        max_grad_norm: The gradient over all trained parameters is scaled down to this norm.
        on_bad_step: What a step does whose gradient is not finite: `"skip"` changes nothing and goes on, `"stop"` ends
            the run with an error.
        max_skipped: This many skipped steps in a row, 1 or more, end the run.
        on_step: Called after each step, such as a `RunLog`.
        on_bad_batches: Called with the report and the batches of a step whose gradient is not finite, before `on_step`
            and on every rank, such as `BadBatches`.
        data: What the batches come from, whose position is saved and restored.
        checkpointer: Where the run is saved; it goes on from the newest whole checkpoint there.
        save_every: Steps from one checkpoint to the next; one more is made at the end.
        seed: Seeds torch's generators before each step, by the step and the rank, so that a run that goes on draws what
            it would have drawn; None leaves them alone.
        keep_gathered: As in `gradient_sync`: weights stay gathered over the batches of a step. Turn it off where they
            do not fit so, as with frozen weights that are sharded.
        autocast: `torch.bfloat16` makes the matrix products of the losses in it, over weights that stay in float32, as
            `prepare_precision` stores them; None for the weights' own dtypes, and for a model that `shard` has given
            its mixed precision.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> squares = Objective(name="squares", batches=[torch.ones(4, 2)], loss=lambda m, x: m(x).square().mean())
        >>> config = TrainConfig(model=model, objectives=[squares], steps=1, lr=1e-4)
        >>> round(config.schedule(0), 5)  # the first of 5000 steps of warm-up
        0.0002
    """

    model: nn.Module
    objectives: Sequence[Objective]
    steps: int
    lr: float
    schedule: Schedule = field(default_factory=lambda: warmup_hold_decay(warmup=5000))
    weight_decay: float = 0.1
    gate_lr_factor: float = 1.0
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)
    optimizer: str = "adamw"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    updates: Literal["accumulate", "round_robin"] = "accumulate"
    max_grad_norm: float = 1.0
    on_bad_step: Literal["skip", "stop"] = "skip"
    max_skipped: int = 10
    on_step: Callable[[StepReport], None] | None = None
    on_bad_batches: Callable[[StepReport, Mapping[str, Any]], None] | None = None
    data: Position | None = None
    checkpointer: Checkpointer | None = None
    save_every: int = 1000
    seed: int | None = None
    keep_gathered: bool = True
    autocast: torch.dtype | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a run did.

    Args:
        reports: Of its steps, the last 10,000 of them.
        skipped: How many steps were skipped.
        first_step: The step that this run began with; above 0 where it went on from a checkpoint.
        stopped_by: The signal that ended it before its last step.
        differences: What the checkpoint said otherwise than the configuration, which was followed.
        passed_over: Newer checkpoints that were damaged, a sentence each: what is wrong, and where they are now.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> squares = Objective(name="squares", batches=[torch.ones(4, 2)] * 3, loss=lambda m, x: m(x).square().mean())
        >>> result = train(TrainConfig(model=model, objectives=[squares], steps=3, lr=0.1))
        >>> len(result.reports), result.skipped, result.stopped_by
        (3, 0, None)
    """

    reports: tuple[StepReport, ...]
    skipped: int
    first_step: int = 0
    stopped_by: str | None = None
    differences: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


def train(config: TrainConfig) -> TrainResult:
    """Train a model: each step adds up the weighted gradients of all data sets, clips them, and makes one update.

    It is the same in one process and in several that `torchrun` started. A run that was killed, or asked to end by
    `SIGTERM`, goes on where its last checkpoint is when it is started again. Without a checkpointer a signal does what
    it does elsewhere in the program.

    Args:
        config: Everything that decides the run.

    Returns:
        What each step did; `stopped_by` tells that a signal ended it early.

    Raises:
        ValueError: If a weight is negative, all are zero, two data sets share a name, one runs dry, an option is none
            of its choices, a checkpointer comes without `data`, the checkpoint is of another run (seed, data sets, way
            of updates), ranks have different data sets, or there are several ranks and the model is not sharded.
        FloatingPointError: If `max_skipped` steps in a row have a gradient that is not finite, or one has and
            `on_bad_step` is `"stop"`.
        CheckpointError: If a checkpoint cannot be loaded, or several in a row cannot be saved.
        RuntimeError: If another rank has no batch; the message says why.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> squares = Objective(name="squares", batches=[torch.ones(4, 2)] * 3, loss=lambda m, x: m(x).square().mean())
        >>> result = train(TrainConfig(model=model, objectives=[squares], steps=3, lr=0.1))
        >>> [report.step for report in result.reports]
        [0, 1, 2]

    Source:
        Flamingo (arXiv 2204.14198), section 2.4: gradients accumulated over the data sets, weighted; better there
        than alternating between them.
    """
    _check(config)
    run = _Run(config)
    run.resume()
    config.model.train()
    # Signals are remembered until the last checkpoint is on the disk: a second one must not break it off. Where nothing
    # is saved nothing is gained by that, and who calls `train` on the way to something else would go on with it.
    with nullcontext(StopRequest()) if config.checkpointer is None else stop_on() as stop:
        try:
            for step in range(run.first_step, config.steps):
                if run.do(step, stop):
                    break
        except BaseException:
            _settle(config.checkpointer)
            raise
        if config.checkpointer is not None:
            config.checkpointer.wait()
    return run.result(stop)


def _settle(checkpointer: Checkpointer | None) -> None:
    """Let a save that is under way end, so that an error costs no checkpoint; how it failed is logged beside it."""
    try:
        if checkpointer is not None:
            checkpointer.wait()
    except CheckpointError as error:
        _log.warning("%s", error)


class _Run:
    """A run under way."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        groups = param_groups(
            config.model, lr=config.lr, weight_decay=config.weight_decay, gate_lr_factor=config.gate_lr_factor,
            lr_factors=config.lr_factors,
        )  # fmt: skip
        adamw = config.optimizer.lower() == "adamw"
        options = {"betas": config.betas, **config.optimizer_options} if adamw else {}
        self.optimizer = make_optimizer(
            config.optimizer, groups, sharded=averaged_over(config.model) > 1, **(options or config.optimizer_options)
        )
        self.buffers = trained_buffers(config.model)
        self.device = next(config.model.parameters()).device
        self.sources: list[tuple[Objective, Iterator[Any]]] = []
        self.reports: deque[StepReport] = deque(maxlen=MOST_REPORTS)
        self.first_step = self.skipped = self.skipped_in_a_row = 0
        self.tokens = 0
        self.differences: tuple[str, ...] = ()
        self.passed_over: tuple[str, ...] = ()
        self.ended_early = False
        _log.info("trained parameters:\n%s", describe_groups(self.optimizer.param_groups))

    def resume(self) -> None:
        """Stand where the newest checkpoint is, if there is one."""
        config = self.config
        if config.checkpointer is not None and not config.checkpointer.is_empty():
            assert config.data is not None
            loaded = config.checkpointer.load(config.model, self.optimizer, fall_back=True)
            if missing := sorted({"data", "tokens"} - loaded.state.keys()):
                raise CheckpointError(
                    f"the checkpoint of step {loaded.step} in {config.checkpointer.folder} has no {missing} in its "
                    "state, so train did not write it; give train a folder of its own"
                )
            changed = _compare(_told(config), loaded.config, folder=config.checkpointer.folder)
            config.data.load_state_dict(loaded.state["data"])
            self.first_step, self.tokens = loaded.step, int(loaded.state["tokens"])
            self.differences, self.passed_over = (*changed, *loaded.differences), loaded.passed_over
            _log.info("the run goes on from step %d", loaded.step)
            for difference in self.differences:
                _log.warning("%s", difference)
        # Only now: whoever asks for an iterator may get one that stands already.
        self.sources = [(objective, iter(objective.batches)) for objective in config.objectives if objective.weight > 0]

    def do(self, step: int, stop: StopRequest) -> bool:
        """One step; whether it was the last, on all ranks alike."""
        config, began = self.config, time.perf_counter()
        if config.seed is not None:
            torch.manual_seed(_seed_of(config.seed, step, rank_of_process()))
        # All batches first: a data set that runs dry must not leave half a gradient behind.
        asked = self.sources if config.updates == "accumulate" else [self.sources[step % len(self.sources)]]
        drawn, sizes, ends = draw_together(asked, config.model, step=step, stop=stop, device=self.device)
        factor = config.schedule(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        report = update(
            config.model, self.optimizer, drawn, sizes,
            step=step, lr=config.lr * factor, began=began, max_grad_norm=config.max_grad_norm,
            keep_gathered=config.keep_gathered, autocast=config.autocast, buffers=self.buffers,
        )  # fmt: skip
        self.tokens += sum(report.tokens.values())
        self.reports.append(report)
        if report.skipped and config.on_bad_batches is not None:
            config.on_bad_batches(report, {one.objective.name: one.parts for one in drawn})
        if config.on_step is not None:
            config.on_step(report)
        self._judge(report)
        self.ended_early = ends and step + 1 < config.steps
        self._save(step + 1, at_once=ends)
        return ends

    def result(self, stop: StopRequest) -> TrainResult:
        stopped_by = (stop.name or "a signal to another rank") if self.ended_early else None
        return TrainResult(
            tuple(self.reports), self.skipped, self.first_step, stopped_by, self.differences, self.passed_over
        )

    def _judge(self, report: StepReport) -> None:
        """Count steps that changed nothing, and end a run that has too many."""
        config = self.config
        self.skipped += report.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        most = 1 if config.on_bad_step == "stop" else config.max_skipped
        if self.skipped_in_a_row >= most:
            steps = "1 step" if self.skipped_in_a_row == 1 else f"{self.skipped_in_a_row} steps in a row"
            raise FloatingPointError(
                f"the gradient was not finite in {steps}, up to step {report.step}; "
                f"last losses: {dict(report.losses)}. Lower lr, which is {config.lr}, or look at these batches"
            )

    def _save(self, done: int, *, at_once: bool) -> None:
        config = self.config
        if config.checkpointer is None or not (at_once or done == config.steps or done % config.save_every == 0):
            return
        assert config.data is not None
        state = {"data": config.data.state_dict(), "tokens": self.tokens}
        last = self.reports[-1]
        metrics = {"loss": sum(last.losses.values()), "grad_norm": last.grad_norm}
        config.checkpointer.save(done, config.model, self.optimizer, state=state, config=_told(config), metrics=metrics)


def _told(config: TrainConfig) -> dict[str, Any]:
    """The plain values of a configuration, for whoever reads a checkpoint."""
    plain = {name: value for name, value in vars(config).items() if isinstance(value, str | int | float | None)}
    weights = {one.name: one.weight for one in config.objectives}
    return {**plain, "autocast": str(config.autocast), "betas": list(config.betas), "weights": weights}


def _compare(told: Mapping[str, Any], saved: Mapping[str, Any], *, folder: Any) -> list[str]:
    """What the configuration of a checkpoint says otherwise; of another run nothing is gone on with.

    Raises:
        ValueError: If what decides the order of the data differs.
    """
    mine, theirs = ({**each, "objectives": sorted(each.get("weights", {}))} for each in (told, saved))
    for name in (*_MUST_MATCH, "objectives"):
        if name in theirs and mine[name] != theirs[name]:
            raise ValueError(
                f"{name} is {mine[name]!r}, and the checkpoints of {folder} are of a run with {theirs[name]!r}; "
                "give what it had, or another folder"
            )
    return [
        f"{name}: was {saved[name]!r}, is {told.get(name)!r}" for name in sorted(saved) if told.get(name) != saved[name]
    ]


def _seed_of(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _check(config: TrainConfig) -> None:
    if config.max_skipped < 1:
        raise ValueError(
            f"max_skipped is {config.max_skipped}, wanted 1 or more; with 1 the first gradient that is not finite ends "
            "the run"
        )
    for name, value, choices in (
        ("updates", config.updates, ("accumulate", "round_robin")),
        ("on_bad_step", config.on_bad_step, ("skip", "stop")),
    ):  # fmt: skip
        if value not in choices:
            raise ValueError(f"{name} is {value!r}, wanted one of {', '.join(map(repr, choices))}")
    known = OPTIMISERS.get(config.optimizer.lower())
    if known is not None and known.needs_graph:
        raise ValueError(
            f"optimizer is {config.optimizer!r}, which needs the graph of the gradients, and train keeps none: take "
            "another, such as 'adamw', or write a loop that calls backward(create_graph=True)"
        )
    if known is not None and known.own_rate:
        raise ValueError(
            f"optimizer is {config.optimizer!r}, which sets its own learning rate, and train sets it in each step: "
            "take another, such as 'adamw', or write a loop without a schedule"
        )
    if config.autocast not in (None, torch.bfloat16):
        raise ValueError(
            f"autocast is {config.autocast}, wanted torch.bfloat16 or None: in float16 small gradients would vanish"
        )
    if not config.max_grad_norm > 0:
        raise ValueError(f"max_grad_norm is {config.max_grad_norm}, wanted a norm above 0; math.inf clips nothing")
    if config.save_every < 1:
        raise ValueError(f"save_every is {config.save_every}, wanted 1 step or more")
    if config.checkpointer is not None and config.data is None:
        raise ValueError(
            "checkpointer is given and data is None: where the batches stand would be lost; give what they come from, "
            "such as the Mixture"
        )
    check_objectives(config.objectives)
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        _check_ranks(config)


def _check_ranks(config: TrainConfig) -> None:
    """All ranks draw the same data sets in the same order, or they wait for each other in vain."""
    mine = {**_told(config), "objectives": [(one.name, one.weight) for one in config.objectives]}
    del mine["weights"]  # which these hold
    of_all: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(of_all, mine)
    if any(one != of_all[0] for one in of_all):
        name = next(name for name in mine if any(each[name] != of_all[0][name] for each in of_all))
        values = [each[name] for each in of_all]
        raise ValueError(f"ranks have different {name}: {values}; give all of them the same in the same order")
    if averaged_over(config.model) == 1:
        raise ValueError(
            f"model is not sharded, and there are {len(of_all)} processes, whose weights would part; "
            "call shard(model) before"
        )
