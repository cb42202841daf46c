"""What ranks do together with gradients: when they are reduced, how long they are, what is summed beside them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, distributed, nn

SMALLEST_NORM = 1e-6  # what torch adds to a norm before it divides by it


@contextmanager
def gradient_sync(model: nn.Module, *, last: bool, keep_gathered: bool = False) -> Iterator[None]:
    """Run a backward pass whose gradients are reduced over the ranks only if it is the last one of the step.

    Put it around `backward()`, and around `forward` too or not. Of several micro-batches a step then reduces once; in
    return each rank holds whole gradients of all that trains until the last one. A model that is not sharded runs as it
    does without.

    Args:
        model: What `shard` gave, or any other.
        last: Whether this is the last backward pass before the optimiser's step.
        keep_gathered: Between micro-batches keep the weights gathered too: fewer messages, more memory.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> batches = [torch.ones(1, 2), torch.zeros(1, 2)]
        >>> for number, batch in enumerate(batches, 1):
        ...     with gradient_sync(model, last=number == len(batches)):
        ...         model(batch).sum().backward()
        >>> model.bias.grad
        tensor([2.])
    """
    root: Any = model
    if not hasattr(model, "set_requires_gradient_sync"):
        yield
        return
    _set(root, last=last, gathered=keep_gathered and not last)
    try:
        yield
    finally:
        _set(root, last=True, gathered=False)


def _set(root: Any, *, last: bool, gathered: bool) -> None:
    root.set_requires_gradient_sync(last)
    root.set_is_last_backward(last)
    root.set_reshard_after_backward(not gathered)


def averaged_over(model: nn.Module) -> int:
    """Over how many ranks the gradients of a model are averaged: 1 for a model that is not sharded.

    A rank that divides its sum of losses by the number of tokens of all ranks multiplies by this, and so gets the
    gradient of the mean over all of them.

    Args:
        model: What `shard` gave, or any other.

    Returns:
        The number of ranks.

    Example:
        >>> averaged_over(nn.Linear(2, 1))
        1
    """
    # Not by its parameters: between forward and backward pass they may be gathered, and look like any others.
    return distributed.get_world_size() if hasattr(model, "set_requires_gradient_sync") else 1


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale the gradients down to a norm over all of them together, on all ranks alike.

    Gradients that are not finite are left as they are, for a step that has to be skipped: ask the norm. Torch's own
    `clip_grad_norm_` makes zeros and NaN of them. Otherwise it does the same, to the last bit in one process.

    Args:
        parameters: Sharded or plain; those without a gradient are left out.
        max_norm: The longest that is left; `float("inf")` measures only.

    Returns:
        The norm before, whole on each rank.

    Raises:
        ValueError: If `max_norm` is less than 1e-6.

    Example:
        >>> import torch
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> clip_gradients([weight], 1.0)
        tensor(5.)
        >>> weight.grad
        tensor([0.6000, 0.8000])
    """
    if not max_norm >= SMALLEST_NORM:
        raise ValueError(f'max_norm is {max_norm}, wanted {SMALLEST_NORM:g} or more; float("inf") to measure only')
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    # A norm of 0 scales by 1. On the device, so that nothing waits for it.
    nn.utils.clip_grads_with_norm_(parameters, max_norm, norm.where(norm.isfinite(), 0))
    return norm


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up a tensor of all ranks; without a process group it is what it is.

    Args:
        values: Of one shape on all ranks, on the device that the group works with. It is not changed.

    Returns:
        The sum.

    Example:
        >>> import torch
        >>> sum_over_ranks(torch.tensor([3, 4]))  # in one process
        tensor([3, 4])
    """
    if not several_ranks():
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def several_ranks() -> bool:
    """Whether there is a process group, and so somebody to add anything up with."""
    return distributed.is_available() and distributed.is_initialized()
