"""What cannot be sharded, or would be sharded into something else than it was, is refused before anything changes."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

Group = Mapping[str, nn.Parameter]  # by name in the model


def fully_shard_of_torch() -> Any:
    """Torch's `fully_shard`, where it can do what we need.

    Raises:
        RuntimeError: If this torch has none, or cannot leave parameters out of it.
    """
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: PLC0415 - builds without distributed lack it
    except ImportError:
        raise RuntimeError(
            f"torch {torch.__version__} has no torch.distributed.fsdp.fully_shard; wanted a build of 2.10 or newer "
            "with torch.distributed"
        ) from None
    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise RuntimeError(
            f"fully_shard of torch {torch.__version__} takes no ignored_params, so frozen weights cannot stay whole; "
            "wanted torch 2.10 or newer"
        )
    return fully_shard


def check_setting(model: nn.Module) -> None:
    """Refuse a model that is sharded or wrapped, and a process without a group.

    Raises:
        RuntimeError: If there is no process group.
        ValueError: If the model is sharded already, has nothing to train, or has layers in torch's checkpoint wrapper.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "shard needs the process group of torch: start the script by torchrun, and call "
            "torch.distributed.init_process_group() in it first"
        )
    if sharded := [name for name, module in model.named_modules() if hasattr(module, "set_requires_gradient_sync")]:
        raise ValueError(f"model is sharded already, from {sharded[0]!r} on; shard a model once, the outermost module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"model is a {type(model).__name__} without a parameter that needs a gradient")
    for name, module in model.named_modules():
        if any(kind.__name__ == "CheckpointWrapper" for kind in type(module).__mro__):
            raise ValueError(
                f"{name!r} is wrapped by torch's checkpoint_wrapper, which runs the layer's hooks a second time, "
                "without their media; leave the wrapper away and call checkpoint_activations() of the model"
            )


def check_groups(groups: Mapping[str, Group], *, mixed_precision: bool) -> None:
    """Refuse parameters that torch cannot shard in these groups, or that would not train as they should.

    Args:
        groups: By the name of the module that gathers them.
        mixed_precision: Whether computing is in bfloat16.

    Raises:
        ValueError: If a parameter is in two groups, has no axis, is quantised or has another dtype than the others.
    """
    owners: dict[nn.Parameter, str] = {}
    for group, parameters in groups.items():
        for name, parameter in parameters.items():
            owner = owners.setdefault(parameter, group)
            if owner != group:
                raise ValueError(f"{name!r} is shared by {owner!r} and {group!r}, each of which is gathered by itself")
            _check_parameter(name, parameter)
        _check_dtypes(group, parameters, mixed_precision=mixed_precision)


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if parameter.ndim == 0:
        raise ValueError(f"{name!r} is a scalar, which torch cannot shard; give it the shape [1]")
    if is_quantised(parameter):
        raise ValueError(
            f"{name!r} is quantised ({type(parameter).__name__}, {parameter.dtype}), and shards of it would be no "
            'weights; pass frozen="replicate"'
        )


def _check_dtypes(group: str, parameters: Group, *, mixed_precision: bool) -> None:
    trained = {name: parameter.dtype for name, parameter in parameters.items() if parameter.requires_grad}
    first: dict[torch.dtype, str] = {}
    for name, dtype in trained.items():
        first.setdefault(dtype, name)
    shown = ", ".join(f"{name!r} is {dtype}" for dtype, name in first.items())
    if len(first) > 1:
        raise ValueError(
            f"trained parameters of {group or 'the model'!r} have several dtypes: {shown}; wanted one, such as "
            "prepare_precision(model) gives"
        )
    if mixed_precision and first and torch.float32 not in first:
        raise ValueError(
            f"mixed_precision is True, but {shown}: small updates would be rounded away; call "
            "prepare_precision(model) first, or pass mixed_precision=False"
        )


def is_quantised(parameter: Tensor) -> bool:
    """Whether a parameter holds no plain floating numbers.

    Args:
        parameter: Any.

    Example:
        >>> is_quantised(nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False))
        True
    """
    return not parameter.is_floating_point() or type(parameter) not in (Tensor, nn.Parameter)


def check_word(frozen: str, words: Collection[str]) -> None:
    """Refuse a word that says nothing.

    Raises:
        ValueError: If it is none of `words`.
    """
    if frozen not in words:
        raise ValueError(f"frozen is {frozen!r}, wanted {' or '.join(map(repr, words))}")
