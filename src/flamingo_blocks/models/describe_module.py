"""Write down how a module was built, and build it again."""

import importlib
from collections.abc import Callable
from typing import Any

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
        return {"class": f"transformers:{type(module).__name__}", "config": config.to_dict()}  # type: ignore[union-attr]
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
    package, _, qualname = name.partition(":")
    if package == "transformers":
        return _build_transformers(qualname, description["config"])
    found: Any = importlib.import_module(package)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise CheckpointError(f"{name} in the saved file is no nn.Module; the file is damaged")
    make: Callable[..., nn.Module] = found
    return make(**description["arguments"])


def _build_transformers(name: str, config: dict[str, Any]) -> nn.Module:
    transformers = require("transformers", used_by="Flamingo.from_pretrained", extra="hf")
    cls = getattr(transformers, name)
    model: nn.Module = cls(cls.config_class.from_dict(config))
    return model
