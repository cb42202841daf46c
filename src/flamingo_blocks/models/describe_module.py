"""Write down how a module was built, and build it again."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from flamingo_blocks._optional import require
from flamingo_blocks.errors import CheckpointError, FlamingoBlocksError, ShapeError

# What a saved file may name, and nothing else: loading it must not import or call what somebody wrote into it.
# One name behind the colon, so that nothing is reached through another module's imports.
_LINEAR = "torch.nn:Linear"
_OURS = re.compile(r"flamingo_blocks\.(demo|interop|lm|models|nn|vision)(\.[a-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_THEIRS = re.compile(r"transformers\.models(\.[a-z_]\w*)*\.modeling_\w+:[A-Za-z_]\w*", re.ASCII)
_VALUES = (
    "flamingo_blocks.vision.image_preprocess:ImagePreprocess",
    "flamingo_blocks.vision.naflex_preprocess:NaFlexPreprocess",
)
# Any other name of a way to attend is a kernel that transformers would fetch, and run.
_ATTENTIONS = (
    "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4",
)  # fmt: skip

Description = dict[str, Any]


def describe_module(module: nn.Module) -> Description:
    """Class and arguments of a module, as plain values.

    Args:
        module: One that keeps its constructor's arguments in `config`, a `torch.nn.Linear`, or a transformers model.

    Returns:
        `{"class": "package:Name", ...}`; without arguments when the module cannot be built again from plain values.
    """
    name = _name_of(class_of(module))
    config = getattr(module, "config", None)
    if isinstance(module, nn.Linear):
        arguments = {"in_features": module.in_features, "out_features": module.out_features,
                     "bias": module.bias is not None}  # fmt: skip
        return {"class": _LINEAR, "arguments": arguments}
    if hasattr(config, "to_diff_dict") and class_of(module).__module__.startswith("transformers."):
        return _describe_transformers(module)
    if isinstance(config, dict):
        arguments = {argument: describe_value(value) for argument, value in config.items()}
        if all(_is_plain(value) for value in arguments.values()):
            return {"class": name, "arguments": arguments}
    return {"class": name}


def class_of(module: nn.Module) -> type:
    """The class of a module, also where FSDP has put one of its own in front of it."""
    return next(kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.distributed."))


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


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
    """Whether a description holds all that is needed, and names a class that a file may name."""
    name = description.get("class")
    trusted = isinstance(name, str) and bool(name == _LINEAR or _OURS.fullmatch(name) or _THEIRS.fullmatch(name))
    return trusted and ("arguments" in description or "config" in description)


@contextmanager
def reading_part(argument: str) -> Iterator[None]:
    """Make a `CheckpointError` with the part's name of whatever a damaged description runs into."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FlamingoBlocksError) and not isinstance(error, ShapeError):
            raise
        raise CheckpointError(
            f"{argument} cannot be built from the saved file, which is damaged or of another version: "
            f"{type(error).__name__}: {error}"
        ) from error


def build_module(description: Description, *, argument: str) -> nn.Module:
    """Build a module from its description.

    Args:
        description: What `describe_module` gave.
        argument: What the caller can pass instead, named in the error.

    Returns:
        The module, with fresh weights.

    Raises:
        CheckpointError: If the description names a class that a file may not name, is damaged, or lacks the arguments.
    """
    with reading_part(argument):
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
    if not (isinstance(value, Mapping) and "class" in value):
        return tuple(value) if isinstance(value, list) else value
    if value["class"] not in _VALUES:
        return build_module(dict(value), argument=argument)
    with reading_part(argument):
        package, _, name = value["class"].partition(":")
        make = getattr(importlib.import_module(package), name)
        return make(**{key: build_value(inner, argument=argument) for key, inner in value["arguments"].items()})


def find_class(name: str) -> Any:
    """The module class that a saved file names: torch's `Linear`, one of this library, or a model of transformers.

    Raises:
        CheckpointError: If it is anything else; then nothing is imported, or nothing that was imported is called.
    """
    if name == _LINEAR:
        return nn.Linear
    package, _, own_name = name.partition(":")
    if not (_OURS.fullmatch(name) or _THEIRS.fullmatch(name)):
        raise CheckpointError(
            f"{name} is no class that a saved file may name; wanted one of flamingo_blocks or transformers.models"
        )
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{name} in the saved file does not exist; the file is damaged") from error
    found = getattr(module, own_name, None)
    # Not what the module itself has imported from elsewhere.
    home = "flamingo_blocks." if _OURS.fullmatch(name) else "transformers.models."
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(home)):
        raise CheckpointError(
            f"{name} in the saved file is no nn.Module of {module.__name__} {getattr(module, '__version__', '')}; "
            "the file is damaged, or that package too old"
        )
    return found


def refuse_fetching(config: Any) -> None:
    """Refuse values of a saved config that make transformers fetch something: kernels of others, or weights.

    Args:
        config: The config of a model as plain values, those of its parts inside.

    Raises:
        CheckpointError: If there is one.
    """
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if str(key).endswith("attn_implementation"):
            _check_attention(value)
        elif key == "use_pretrained_backbone" and value:
            raise CheckpointError(f"the saved config has {key} {value!r}, which fetches weights; wanted False")
        else:
            refuse_fetching(value)


def _check_attention(value: Any) -> None:
    for name in value.values() if isinstance(value, Mapping) else (value,):
        if name is not None and name not in _ATTENTIONS:
            raise CheckpointError(
                f"the saved config attends by {name!r}, wanted one of {_ATTENTIONS}; build the model yourself and "
                "pass it"
            )


def _describe_transformers(module: Any) -> Description:
    """The config, and what it forgets: how the model attends and generates, dtypes of buffers that are not saved."""
    generation = getattr(module, "generation_config", None)
    unsaved = {name: buffer for name, buffer in module.named_buffers() if name not in module.state_dict()}
    return {
        "class": _name_of(class_of(module)),
        "config_class": type(module.config).__name__,
        "config": module.config.to_dict(),
        "attention": module.config._attn_implementation,
        "generation": None if generation is None else generation.to_dict(),
        "buffers": {name: str(buffer.dtype).removeprefix("torch.") for name, buffer in unsaved.items()},
    }


def _build_transformers(name: str, description: Description) -> nn.Module:
    transformers = require("transformers", used_by="Flamingo.from_pretrained", extra="hf")
    refuse_fetching(description["config"])
    _check_attention(description["attention"])
    cls = find_class(name)
    config = _config_class(transformers, cls, description["config_class"]).from_dict(description["config"])
    config._attn_implementation = description["attention"]
    model: nn.Module = cls(config)
    if description["generation"] is not None:
        model.generation_config = transformers.GenerationConfig.from_dict(description["generation"])
    for buffer_name, buffer in model.named_buffers():  # another version of transformers may have other buffers
        if dtype := description["buffers"].get(buffer_name):
            buffer.data = buffer.data.to(getattr(torch, dtype))
    return model


def _config_class(transformers: Any, cls: type, name: str) -> Any:
    """A model's own; the inner half of one has none, and gets what its file knows by that name."""
    found = getattr(cls, "config_class", None) or getattr(importlib.import_module(cls.__module__), name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedConfig)):
        raise CheckpointError(f"{name} in the saved file is no config of {cls.__name__}; the file is damaged")
    return found
