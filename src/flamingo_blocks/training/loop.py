"""The training loop: several weighted data sets, one update a step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.training.optimisers import adamw, param_groups
from flamingo_blocks.training.schedule import Schedule, warmup_hold_decay
from flamingo_blocks.training.step_report import StepReport as StepReport  # noqa: PLC0414 - the package has it from here


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One data set of a run: what is drawn from it, how it is scored, and how much it counts.

    Args:
        name: Stands in reports.
        batches: Gives at least as many batches as the run has steps.
        loss: Takes the model and a batch, gives a scalar.
        weight: Factor on the loss. A data set of weight 0 is not drawn from.

    Example:
        >>> Objective(name="squares", batches=[torch.ones(4, 2)], loss=lambda model, x: model(x).square().mean()).weight
        1.0
    """

    name: str
    batches: Iterable[Any]
    loss: Callable[[Any, Any], Tensor]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run.

    Args:
        model: Module to train; parameters that need no gradient stay as they are.
        objectives: The data sets, in the order in which they are drawn from.
        steps: Number of updates.
        lr: Learning rate at schedule factor 1.
        schedule: Factor on the learning rates by step.
        weight_decay: Decay of the matrices, see `param_groups`.
        gate_lr_factor: Factor on the gates' learning rate, see `param_groups`.
        betas: AdamW's decay rates.
        max_grad_norm: The gradient over all trained parameters is scaled down to this norm.
        max_skipped: A step whose gradient is not finite changes nothing; this many in a row, 1 or more, end the run.
        on_step: Called after each step.

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
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    max_skipped: int = 10
    on_step: Callable[[StepReport], None] | None = None


@dataclass(frozen=True)
class TrainResult:
    """The reports of all steps, and how many steps were skipped."""

    reports: tuple[StepReport, ...]
    skipped: int


def train(config: TrainConfig) -> TrainResult:
    """Train a model: each step adds up the weighted gradients of all data sets, clips them, and makes one update.

    Args:
        config: Everything that decides the run.

    Returns:
        What each step did.

    Raises:
        ValueError: If a weight is negative, all are zero, two data sets share a name, one runs dry, or `max_skipped` is
            less than 1.
        FloatingPointError: If `max_skipped` steps in a row have a gradient that is not finite.

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
    _check(config.objectives, config.max_skipped)
    groups = param_groups(
        config.model, lr=config.lr, weight_decay=config.weight_decay, gate_lr_factor=config.gate_lr_factor
    )
    optimiser = adamw(groups, betas=config.betas)
    sources = [(objective, iter(objective.batches)) for objective in config.objectives if objective.weight > 0]
    reports: list[StepReport] = []
    skipped = skipped_in_a_row = 0
    config.model.train()
    for step in range(config.steps):
        # All batches first: a data set that runs dry must not leave half a gradient behind.
        drawn = [(objective, _next(objective, source, step)) for objective, source in sources]
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * config.schedule(step)
        report = _step(config, optimiser, drawn, step)
        finite = report.grad_norm < float("inf")
        skipped += not finite
        skipped_in_a_row = 0 if finite else skipped_in_a_row + 1
        if skipped_in_a_row >= config.max_skipped:
            raise FloatingPointError(
                f"the gradient was not finite in {skipped_in_a_row} steps in a row, up to step {step}; "
                f"last losses: {dict(report.losses)}. Lower lr, which is {config.lr}, or look at these batches"
            )
        reports.append(report)
        if config.on_step is not None:
            config.on_step(report)
    return TrainResult(tuple(reports), skipped)


def _step(
    config: TrainConfig, optimiser: torch.optim.Optimizer, drawn: list[tuple[Objective, Any]], step: int
) -> StepReport:
    optimiser.zero_grad(set_to_none=True)
    losses = {}
    for objective, batch in drawn:
        loss = objective.loss(config.model, batch)
        torch.autograd.backward(objective.weight * loss)
        losses[objective.name] = loss.detach().reshape(1)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, config.max_grad_norm).reshape(1)
    # Each reading waits until the device has done all its work, so there is one a step.
    *values, size = torch.cat([*(loss.to(norm.device) for loss in losses.values()), norm]).tolist()
    if size < float("inf"):
        optimiser.step()
    return StepReport(step, dict(zip(losses, values, strict=True)), size)


def _next(objective: Objective, source: Any, step: int) -> Any:
    try:
        return next(source)
    except StopIteration:
        raise ValueError(
            f"objective {objective.name!r} ran dry at step {step}: its batches must last as long as the run"
        ) from None


def _check(objectives: Sequence[Objective], max_skipped: int) -> None:
    if max_skipped < 1:
        raise ValueError(
            f"max_skipped is {max_skipped}, wanted 1 or more; with 1 the first gradient that is not finite ends the run"
        )
    names = [objective.name for objective in objectives]
    if len(set(names)) < len(names):
        raise ValueError(f"objectives have the names {names}: each needs a name of its own")
    weights = {objective.name: objective.weight for objective in objectives}
    if not all(weight >= 0 for weight in weights.values()) or not any(weights.values()):
        raise ValueError(f"objectives have the weights {weights}: wanted none below 0 and one above")
