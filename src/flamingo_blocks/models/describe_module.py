"""Write down how a module was built, and build it again."""

import importlib
from collections.abc import Callable
from types import ModuleType
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
        return {"class": name, "arguments": config}
    return {"class": name}


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
    package = name.partition(":")[0]
    if package == "transformers":
        return _build_transformers(name, description)
    try:
        found = _find_class(importlib.import_module(package), name)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{name} in the saved file does not exist; the file is damaged") from error
    make: Callable[..., nn.Module] = found
    return make(**description["arguments"])


def _find_class(module: ModuleType, name: str) -> Any:
    """The class that a saved file names, and nothing but a module's class."""
    found: Any = module
    for part in name.partition(":")[2].split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
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
        "class": f"transformers:{type(module).__name__}",
        "config": module.config.to_dict(),
        "attention": module.config._attn_implementation,
        "generation": None if generation is None else generation.to_dict(),
        "buffers": {name: str(buffer.dtype).removeprefix("torch.") for name, buffer in unsaved.items()},
    }


def _build_transformers(name: str, description: Description) -> nn.Module:
    transformers = require("transformers", used_by="Flamingo.from_pretrained", extra="hf")
    cls = _find_class(transformers, name)
    config = cls.config_class.from_dict(description["config"])
    config._attn_implementation = description["attention"]
    model: nn.Module = cls(config)
    if description["generation"] is not None:
        model.generation_config = transformers.GenerationConfig.from_dict(description["generation"])
    for buffer_name, buffer in model.named_buffers():  # another version of transformers may have other buffers
        if dtype := description["buffers"].get(buffer_name):
            buffer.data = buffer.data.to(getattr(torch, dtype))
    return model
