"""What IDEFICS and Mllama share: blocks spelled as layers of a Llama, around a Llama that keeps its own names."""

from typing import Any

from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.families._frozen_parts import table_and_head, vision_entries
from flamingo_blocks.interop.families._templates import Names
from flamingo_blocks.interop.key_map import Entry, Shapes
from flamingo_blocks.lm.text_config import text_config

LLAMA_BLOCK: Names = {
    "cross_attn.q_proj.weight": ("attention.q_proj.weight",),
    "cross_attn.k_proj.weight": ("attention.k_proj.weight",),
    "cross_attn.v_proj.weight": ("attention.v_proj.weight",),
    "cross_attn.o_proj.weight": ("attention.o_proj.weight",),
    "mlp.gate_proj.weight": ("feed_forward.gate_proj.weight",),
    "mlp.up_proj.weight": ("feed_forward.up_proj.weight",),
    "mlp.down_proj.weight": ("feed_forward.down_proj.weight",),
    "input_layernorm.weight": ("attention.norm.weight",),
    "post_attention_layernorm.weight": ("feed_forward.norm.weight",),
}


def vocabulary_size(lm: nn.Module) -> int:
    """Rows of the token embedding.

    Raises:
        CheckpointError: If it cannot be found.
    """
    table, _ = table_and_head(lm)
    if table is None:
        raise CheckpointError(f"{type(lm).__name__} has no token embedding and head that can be told; wanted a Llama")
    return int(lm.state_dict()[table].shape[0])


def config_value(lm: nn.Module, name: str) -> Any:
    """What the config of the language model says, if it has one."""
    return getattr(text_config(lm), name, None)


def own_names(part: object, landmark: str) -> dict[str, str]:
    """Names of a tower's tensors without the wrappers around the model, and with them.

    Args:
        part: The tower.
        landmark: A tensor that stands at the top of the model inside.

    Raises:
        CheckpointError: If there is no such tensor.
    """
    if not isinstance(part, nn.Module):
        return {}
    state = part.state_dict()
    inside = sorted((name.removesuffix(landmark) for name in state if name.endswith(landmark)), key=len)
    if not inside:
        raise CheckpointError(f"vision is a {type(part).__name__} without {landmark}, which the family's tower has")
    return {name.removeprefix(inside[0]): name for name in state if name.startswith(inside[0])}


def held_tower_entries(shapes: Shapes, prefix: str, vision: nn.Module | None, landmark: str) -> list[Entry]:
    """Entries of the tower of a checkpoint, which holds one: without any of its weights all are wanted.

    Raises:
        CheckpointError: If `vision` is missing, or has other weights.
    """
    if vision is not None and not any(name.startswith(prefix) for name in shapes):
        return tower_entries(vision, prefix, landmark)
    return vision_entries(shapes, prefix, vision)


def tower_entries(vision: object, prefix: str, landmark: str) -> list[Entry]:
    """Entries of all weights of a tower."""
    names = own_names(vision, landmark)
    return [Entry(prefix + plain, (f"vision.{name}",)) for plain, name in names.items()]
