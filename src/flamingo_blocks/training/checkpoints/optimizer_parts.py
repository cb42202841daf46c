"""An optimiser, taken apart by the names of its parameters, and put together again."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.tensor import DTensor, empty
from torch.optim import Optimizer

_STATE = "optimizer.state"
_OF_GROUPS = ("params", "name", "lr", "base_lr", "initial_lr", "weight_decay")


class OptimizerParts:
    """What an optimiser keeps for each parameter, by the parameter's name in the model.

    Args:
        optimizer: Any of torch's interface.
        model: Whose parameters it trains.

    Raises:
        ValueError: If it trains a parameter that the model does not have, or that is frozen.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module) -> None:
        names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
        strange = [
            tuple(parameter.shape)
            for group in optimizer.param_groups
            for parameter in group["params"]
            if id(parameter) not in names
        ]
        if strange:
            raise ValueError(
                f"optimizer has {len(strange)} parameters that are no trained ones of the model, of shapes "
                f"{strange[:3]}: make it after the model is sharded and frozen"
            )
        self._optimizer = optimizer
        self._groups = [(group, [names[id(p)] for p in group["params"]]) for group in optimizer.param_groups]

    def taken_apart(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its tensors by key, and the rest in JSON's types: class, groups, and what the state of each parameter is."""
        tensors: dict[str, Tensor] = {}
        state = {
            name: _plain(self._optimizer.state[parameter], f"{_STATE}.{name}", tensors, parameter)
            for group, names in self._groups
            for name, parameter in zip(names, group["params"], strict=True)
            if parameter in self._optimizer.state
        }
        groups = [{"parameters": names, "values": _values(group)} for group, names in self._groups]
        return tensors, {"class": _class_of(self._optimizer), "groups": groups, "state": state}

    def compare(self, saved: Mapping[str, Any] | None) -> list[str]:
        """What keeps a saved optimiser from becoming this one, in words."""
        if saved is None:
            return ["it holds no optimizer: load it with optimizer=None"]
        if saved["class"] != _class_of(self._optimizer):
            return [f"its optimizer is {saved['class']}, here it is {_class_of(self._optimizer)}"]
        there = {name for group in saved["groups"] for name in group["parameters"]}
        here = {name for _, names in self._groups for name in names}
        return [
            f"the optimizer {there_or_here} trains {sorted(names)[:5]}, and not {elsewhere}"
            for there_or_here, names, elsewhere in (
                ("of the checkpoint", there - here, "here"),
                ("here", here - there, "in the checkpoint"),
            )
            if names
        ]

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Hyper-parameters that are others here than they were, in words; those of here stay."""
        before = {name: group["values"] for group in saved["groups"] for name in group["parameters"]}
        found: dict[str, None] = {}
        for number, (group, names) in enumerate(self._groups):
            now = _values(group)
            for name in names:
                for key in sorted((now.keys() | before[name].keys()) - _counts_of(self._optimizer, group)):
                    was, is_now = before[name].get(key), now.get(key)
                    if was != is_now:
                        label = group.get("name", number)
                        found[f"optimizer group {label}: {key} was {was!r}, is {is_now!r}"] = None
        return list(found)

    def tensors_for(self, saved: Mapping[str, Any], layout: Metadata) -> dict[str, Tensor]:
        """Empty tensors for all that was saved, sharded as the parameters are."""
        found: dict[str, Tensor] = {}
        for group, names in self._groups:
            on_device = bool(group.get("fused") or group.get("capturable"))
            for name, parameter in zip(names, group["params"], strict=True):
                for key in _tensor_keys(saved["state"].get(name)):
                    kept = layout.state_dict_metadata[key]
                    assert isinstance(kept, TensorStorageMetadata)
                    # As torch's own `load_state_dict`: the fused forms count their steps on the device.
                    elsewhere = key == f"{_STATE}.{name}.step" and not on_device
                    found[key] = _empty(kept, parameter, "cpu" if elsewhere else parameter.device)
        return found

    def put_together(self, saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take on a saved state; what this optimiser kept before is gone."""
        self._optimizer.state.clear()
        for group, names in self._groups:
            for name, parameter in zip(names, group["params"], strict=True):
                if name in saved["state"]:
                    self._optimizer.state[parameter] = _put_back(saved["state"][name], tensors)
        before = {name: group["values"] for group in saved["groups"] for name in group["parameters"]}
        for group, names in self._groups:  # counts that some optimisers keep beside their options
            kept = before[names[0]] if names else {}
            group.update({key: kept[key] for key in _counts_of(self._optimizer, group) if key in kept})


def _class_of(optimizer: Optimizer) -> str:
    return f"{type(optimizer).__module__}:{type(optimizer).__qualname__}"


def _counts_of(optimizer: Optimizer, group: Mapping[str, Any]) -> set[str]:
    """What a group holds that nobody set: neither an option of the optimiser, nor of `param_groups`."""
    inner: Any = getattr(optimizer, "optimizer", optimizer)  # Lookahead has the groups of what it wraps
    options = inspect.signature(type(inner)).parameters
    return {key for key in group if key not in options and key not in _OF_GROUPS}


def _values(group: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a group; a rate that follows a schedule is told by the base it is a factor of."""
    left_out = {"params", "lr"} if "base_lr" in group else {"params"}
    return {key: _in_json(value) for key, value in group.items() if key not in left_out}


def _in_json(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else repr(value)
    if isinstance(value, list | tuple):
        return [_in_json(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _plain(value: Any, key: str, tensors: dict[str, Tensor], parameter: Tensor) -> Any:
    """Put the tensors of a value aside, and describe the rest of it."""
    if isinstance(value, DTensor) and value.shape != parameter.shape:
        value = value.full_tensor()  # a number of the whole parameter
    if isinstance(value, Tensor):
        tensors[key] = value.detach()
        return {"tensor": key}
    if isinstance(value, Mapping):
        return {
            "mapping": [[name, _plain(inner, f"{key}.{name}", tensors, parameter)] for name, inner in value.items()]
        }
    if isinstance(value, list | tuple):
        inside = [_plain(inner, f"{key}.{place}", tensors, parameter) for place, inner in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": inside}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"optimizer keeps a {type(value).__name__} as {key}, wanted tensors and plain values")


def _put_back(described: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `_plain` described."""
    if not isinstance(described, dict):
        return described
    ((kind, inside),) = described.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "mapping":
        return {name: _put_back(inner, tensors) for name, inner in inside}
    make: Callable[[Any], Any] = {"list": list, "tuple": tuple}[kind]
    return make(_put_back(inner, tensors) for inner in inside)


def _tensor_keys(described: Any) -> list[str]:
    """The keys of all tensors of what `_plain` described."""
    if not isinstance(described, dict):
        return []
    ((kind, inside),) = described.items()
    if kind == "tensor":
        return [inside]
    values = [inner for _, inner in inside] if kind == "mapping" else inside
    return [key for value in values for key in _tensor_keys(value)]


def saved_keys(saved: Mapping[str, Any] | None) -> set[str]:
    """The keys of all tensors of a saved optimiser."""
    return {key for described in (saved or {"state": {}})["state"].values() for key in _tensor_keys(described)}


def _empty(kept: TensorStorageMetadata, parameter: Tensor, device: Any) -> Tensor:
    dtype = kept.properties.dtype
    if isinstance(parameter, DTensor) and kept.size == parameter.shape:
        mesh, placements = parameter.device_mesh, parameter.placements
        return empty(kept.size, dtype=dtype, device_mesh=mesh, placements=placements)
    return torch.empty(kept.size, dtype=dtype, device=device)
