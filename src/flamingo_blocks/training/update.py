"""One update: the gradients of all data sets of a step, added up with their weights."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from flamingo_blocks.training.objective import Drawn
from flamingo_blocks.training.ranks.gradients import (
    averaged_over,
    clip_gradients,
    gradient_sync,
    sum_over_ranks,
)
from flamingo_blocks.training.step_report import StepReport


def backward(
    model: nn.Module,
    drawn: Sequence[Drawn],
    terms: Sequence[int],
    *,
    keep_gathered: bool,
    autocast: torch.dtype | None = None,
) -> list[Tensor]:
    """Add the gradients of the batches of a step to those of the parameters, reduced over the ranks once.

    Args:
        model: In training mode.
        drawn: Of this rank.
        terms: How many terms the loss of each data set is a mean of, on all ranks together.
        keep_gathered: As in `gradient_sync`.
        autocast: As in `TrainConfig`.

    Returns:
        For each data set this rank's share of its mean loss; those of all ranks add up to it.
    """
    ranks = averaged_over(model)
    last = sum(len(one.parts) for one in drawn)
    shares, number = [], 0
    for one, of_all in zip(drawn, terms, strict=True):
        total: Tensor | None = None
        for part, count in zip(one.parts, one.counts, strict=True):
            number += 1
            with gradient_sync(model, last=number == last, keep_gathered=keep_gathered):
                with _computing_in(autocast, model):
                    loss = one.objective.loss(model, part)
                # Without a term here a mean of none may be NaN: it adds an exact zero, and takes part in all messages.
                share = loss * (count / of_all) if count else torch.zeros_like(loss) * loss.nan_to_num()
                torch.autograd.backward(share * (one.objective.weight * ranks))
            seen = share.detach().reshape(1)
            total = seen if total is None else total + seen
        assert total is not None
        shares.append(total)
    return shares


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    drawn: Sequence[Drawn],
    sizes: Sequence[Sequence[int]],
    *,
    step: int,
    lr: float,
    began: float,
    max_grad_norm: float,
    keep_gathered: bool = True,
    autocast: torch.dtype | None = None,
    buffers: Sequence[Tensor] = (),
) -> StepReport:
    """Run a step: gradients of all data sets, clipped, and one update if they are finite.

    Args:
        model: In training mode.
        optimizer: Over its trained parameters.
        drawn: The batches of this rank.
        sizes: Those of all ranks, as `draw_together` tells.
        step: Its number.
        lr: That of groups without a factor of their own, to be reported.
        began: When the step did, by `time.perf_counter()`.
        max_grad_norm: The gradient over all trained parameters is scaled down to this norm.
        keep_gathered: As in `gradient_sync`.
        autocast: As in `TrainConfig`.
        buffers: What forward passes change beside the parameters; put back if the step changes nothing.

    Returns:
        What was done.
    """
    before = [buffer.detach().clone() for buffer in buffers]
    optimizer.zero_grad(set_to_none=True)
    terms = [number for number, *_ in sizes]
    shares = backward(model, drawn, terms, keep_gathered=keep_gathered, autocast=autocast)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = clip_gradients(trained, max_grad_norm).reshape(1)
    losses = sum_over_ranks(torch.cat([share.to(norm.device) for share in shares]))
    # Each reading waits until the device has done all its work, so there is one a step; with several ranks that of
    # their sizes comes before it.
    *values, size = torch.cat([losses, norm]).tolist()
    finite = size < float("inf")
    if finite:
        optimizer.step()
    else:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
    names = [one.objective.name for one in drawn]
    return StepReport(
        step,
        dict(zip(names, values, strict=True)),
        size,
        tokens={name: tokens for name, (_, tokens, _) in zip(names, sizes, strict=True)},
        items={name: items for name, (*_, items) in zip(names, sizes, strict=True)},
        lr=lr,
        seconds=time.perf_counter() - began,
        skipped=not finite,
    )


def _computing_in(dtype: torch.dtype | None, model: nn.Module) -> AbstractContextManager[object]:
    """Where products are made in another dtype than the weights'; the backward pass follows by itself."""
    return nullcontext() if dtype is None else torch.autocast(next(model.parameters()).device.type, dtype)
