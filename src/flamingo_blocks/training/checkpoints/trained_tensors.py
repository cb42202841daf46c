"""Which tensors of a model a checkpoint holds, and a fingerprint of the others."""

import json
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.models.training_modules import training_modules

_SAMPLES = 16  # of each frozen tensor


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, and the buffers of modules that do; nothing of what is frozen.

    Args:
        model: Any module, sharded or not.

    Returns:
        The tensors themselves by name, without gradient.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).requires_grad_(False))
        >>> list(trained_tensors(model))
        ['0.weight', '0.bias', '0.running_mean', '0.running_var', '0.num_batches_tracked']
    """
    return {name: tensor.detach() for name, tensor in _split(model)[0].items()}


def trained_buffers(model: nn.Module) -> list[Tensor]:
    """The buffers among these, such as the statistics of norms: a forward pass changes them, and no optimiser does.

    Args:
        model: Any module, sharded or not.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).requires_grad_(False))
        >>> len(trained_buffers(model))
        3
    """
    return [tensor for tensor in _split(model)[0].values() if not isinstance(tensor, nn.Parameter)]


def gathered_back(model: nn.Module) -> None:
    """Have FSDP take back what a forward pass without a backward pass has left gathered."""
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if hasattr(module, "set_requires_gradient_sync") and callable(reshard):
            reshard()


def frozen_parts(model: nn.Module) -> dict[str, str | None]:
    """A fingerprint of all that a checkpoint does not hold.

    Args:
        model: Any module, sharded or not.

    Returns:
        `names`: hash of names and shapes of the frozen tensors, and of the configs of models of transformers.
        `values`: hash of some values of each, rounded to bfloat16 so that a model means the same in any precision;
        None where some are sharded or quantised, for then no process has them.

    Example:
        >>> one, other = (nn.Linear(2, 2).requires_grad_(False) for _ in range(2))
        >>> [frozen_parts(one)[key] == frozen_parts(other)[key] for key in ("names", "values")]
        [True, False]
    """
    frozen = _split(model)[1]
    about = [[name, *value.shape] for name, value in frozen.items()]
    names = json.dumps([about, _configs(model)], sort_keys=True, default=str)
    return {"names": sha256(names.encode()).hexdigest(), "values": _hash_of_some(list(frozen.values()))}


def _hash_of_some(tensors: list[Tensor]) -> str | None:
    if any(type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta for tensor in tensors):
        return None
    some = []
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)
        some.append(flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].to(torch.bfloat16).tolist())
    return sha256(json.dumps(some).encode()).hexdigest()


def _configs(model: nn.Module) -> dict[str, Any]:
    """Configs of models of transformers; where their files lie and what wrote them says nothing about them."""
    found = {}
    for name, module in model.named_modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "to_diff_dict"):
            values = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
            found[name] = {key: value for key, value in values.items() if key not in _NO_PART_OF_A_MODEL}
    return found


_NO_PART_OF_A_MODEL = {"dtype", "torch_dtype", "transformers_version", "use_cache"}


def _split(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What trains and what is frozen, by name; what has several names stands once, under the first of them."""
    gathered_back(model)
    training = training_modules(model)
    parameters = dict(model.named_parameters())
    trained: dict[str, Tensor] = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    known = {id(parameter) for parameter in parameters.values()}
    frozen: dict[str, Tensor] = {
        name: parameter for name, parameter in parameters.items() if not parameter.requires_grad
    }
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and id(value) not in known:
            known.add(id(value))
            (trained if name.rpartition(".")[0] in training else frozen)[name] = value
    return trained, dict(sorted(frozen.items()))
