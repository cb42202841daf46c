"""Write down how a module was built, and build it again."""

import importlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from flamingo_blocks._optional import require
from flamingo_blocks.errors import CheckpointError

# A saved file may name classes of these packages only: loading it must not import anything else.
_TRUSTED = ("flamingo_blocks", "transformers", "torch.nn")

Description = dict[str, Any]


def describe_module(module: nn.Module) -> Description:
    """Class and arguments of a module, as plain values.

    Args:
        module: One that keeps its constructor's arguments in `config`, a `torch.nn.Linear`, or a transformers model.

    Returns:
        `{"class": "package:Name", ...}`; without arguments when the module cannot be built again from plain values.
    """
    name = f"{type(module).__module__}:{type(module).__qualname__}"
    config = getattr(module, "config", None)
    if isinstance(module, nn.Linear):
        arguments = {"in_features": module.in_features, "out_features": module.out_features,
                     "bias": module.bias is not None}  # fmt: skip
        return {"class": "torch.nn:Linear", "arguments": arguments}
    if hasattr(config, "to_diff_dict") and type(module).__module__.startswith("transformers."):
        return _describe_transformers(module)
    if isinstance(config, dict):
        arguments = {argument: describe_value(value) for argument, value in config.items()}
        if all(_is_plain(value) for value in arguments.values()):
            return {"class": name, "arguments": arguments}
    return {"class": name}


def describe_value(value: Any) -> Any:
    """A plain value as it is; a module, or a frozen dataclass of ours, by its class."""
    if isinstance(value, nn.Module):
        return describe_module(value)
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "arguments": given}
    return value


def _is_plain(value: Any) -> bool:
    """Whether JSON keeps it, and a described module can be built again."""
    if isinstance(value, dict) and "class" in value:
        return can_build(value)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def can_build(description: Description) -> bool:
    """Whether a description holds all that is needed, and names a trusted class."""
    package = description["class"].partition(":")[0]
    trusted = any(package == root or package.startswith(root + ".") for root in _TRUSTED)
    return trusted and ("arguments" in description or "config" in description)


def build_module(description: Description, *, argument: str) -> nn.Module:
    """Build a module from its description.

    Args:
        description: What `describe_module` gave.
        argument: What the caller can pass instead, named in the error.

    Returns:
        The module, with fresh weights.

    Raises:
        CheckpointError: If the description names a class outside the trusted packages, or lacks the arguments.
    """
    name = description["class"]
    if not can_build(description):
        raise CheckpointError(
            f"{name} cannot be built from the saved file alone; build it yourself and pass it as {argument}="
        )
    if name.startswith("transformers"):
        return _build_transformers(name, description)
    arguments = {key: build_value(value, argument=argument) for key, value in description["arguments"].items()}
    make: Callable[..., nn.Module] = find_class(name)
    return make(**arguments)


def build_value(value: Any, *, argument: str) -> Any:
    """The value that `describe_value` described; `argument` as in `build_module`."""
    if not (isinstance(value, dict) and "class" in value):
        return tuple(value) if isinstance(value, list) else value
    found: type | None = find_class(value["class"], kind=object) if can_build(value) else None
    if found is not None and hasattr(found, "__dataclass_fields__"):
        return found(**{key: build_value(inner, argument=argument) for key, inner in value["arguments"].items()})
    return build_module(value, argument=argument)


def find_class(name: str, *, kind: type = nn.Module) -> Any:
    """The class that a saved file names, and nothing but a class of that kind."""
    package, _, qualname = name.partition(":")
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{name} in the saved file does not exist; the file is damaged") from error
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise CheckpointError(
            f"{name} in the saved file is no nn.Module of {module.__name__} {getattr(module, '__version__', '')}; "
            "the file is damaged, or that package too old"
        )
    return found


def _describe_transformers(module: Any) -> Description:
    """The config, and what it forgets: how the model attends and generates, dtypes of buffers that are not saved."""
    generation = getattr(module, "generation_config", None)
    unsaved = {name: buffer for name, buffer in module.named_buffers() if name not in module.state_dict()}
    return {
        "class": f"{type(module).__module__}:{type(module).__name__}",
        "config_class": type(module.config).__name__,
        "config": module.config.to_dict(),
        "attention": module.config._attn_implementation,
        "generation": None if generation is None else generation.to_dict(),
        "buffers": {name: str(buffer.dtype).removeprefix("torch.") for name, buffer in unsaved.items()},
    }


def _build_transformers(name: str, description: Description) -> nn.Module:
    transformers = require("transformers", used_by="Flamingo.from_pretrained", extra="hf")
    cls = find_class(name)
    config_class = getattr(transformers, description["config_class"], None) or cls.config_class
    config = config_class.from_dict(description["config"])
    config._attn_implementation = description["attention"]
    model: nn.Module = cls(config)
    if description["generation"] is not None:
        model.generation_config = transformers.GenerationConfig.from_dict(description["generation"])
    for buffer_name, buffer in model.named_buffers():  # another version of transformers may have other buffers
        if dtype := description["buffers"].get(buffer_name):
            buffer.data = buffer.data.to(getattr(torch, dtype))
    return model
