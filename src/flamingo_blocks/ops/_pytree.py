"""Dataclasses of tensors as trees, for what torch does to all tensors of a call: checkpoints, export, FSDP."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from torch.utils import _pytree as pytree


def register_tensors(cls: type, *, constants: tuple[str, ...] = ()) -> None:
    """Make the fields of a dataclass that hold something the branches of a tree, and a few its constants.

    Not `pytree.register_dataclass`: it rebuilds through `__init__`, whose shape annotations hold of tensors only. Torch
    also maps them to what is none, such as `None` where it looks at the devices of a checkpointed call (torch 2.11).
    """
    branches = [field.name for field in fields(cls) if field.name not in constants]

    def flatten(obj: object) -> tuple[list[object], list[list[Any]]]:
        names = [name for name in branches if getattr(obj, name) is not None]
        return [getattr(obj, name) for name in names], [names, [getattr(obj, name) for name in constants]]

    def unflatten(values: Iterable[object], context: list[list[Any]]) -> object:
        names, kept = context
        held = dict(zip(names, values, strict=True)) | dict(zip(constants, kept, strict=True))
        rebuilt: Any = object.__new__(cls)
        rebuilt.__dict__.update(dict.fromkeys(branches) | held)  # past `__setattr__`, for the dataclass is frozen
        return rebuilt

    def flatten_with_keys(obj: object) -> tuple[list[tuple[Any, object]], list[list[Any]]]:
        values, context = flatten(obj)
        return [(pytree.GetAttrKey(name), value) for name, value in zip(context[0], values, strict=True)], context

    pytree.register_pytree_node(
        cls, flatten, unflatten, serialized_type_name=f"flamingo_blocks.{cls.__name__}",
        flatten_with_keys_fn=flatten_with_keys,
    )  # fmt: skip
