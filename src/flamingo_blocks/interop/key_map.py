"""What a family of checkpoints is made of: a list of entries, from which both ways follow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
GIVEN = ("lm.", "vision.")  # the caller's parts, which may have weights that no checkpoint holds


@dataclass(frozen=True)
class Entry:
    """One tensor of a foreign checkpoint, and where it lives here.

    The foreign tensor is the tensors `ours`, put together along their first axis and viewed as `shape`: fused keys and
    values, a table with its new rows, gates of another shape are all of this form. With no tensor of ours it is all
    zeros, and must be: what the family adds somewhere and we do not.

    Args:
        foreign: Name in the checkpoint.
        ours: Names in `Flamingo.state_dict()`.
        shape: Shape of the foreign tensor, where it is not that of `ours` put together.
        aliases: Further names of the same tensor in the checkpoint (tied heads, a module registered twice).

    Example:
        >>> fused = Entry("attn.to_kv.weight", ("attention.k_proj.weight", "attention.v_proj.weight"))
        >>> fused.join([torch.zeros(4, 3), torch.ones(4, 3)]).shape
        torch.Size([8, 3])
        >>> [part.shape for part in fused.split(torch.zeros(8, 3), [(4, 3), (4, 3)])]
        [torch.Size([4, 3]), torch.Size([4, 3])]
    """

    foreign: str
    ours: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the tensor in a checkpoint."""
        return (self.foreign, *self.aliases)

    def foreign_shape(self, parts: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
        """Shape of the foreign tensor when ours have these shapes; `None` if these cannot be put together."""
        if not parts:
            return self.shape
        first, *others = parts
        if any(tuple(part[1:]) != tuple(first[1:]) for part in others):
            return None
        joined = tuple(first) if not others else (sum(part[0] for part in parts), *first[1:])
        if self.shape is not None and torch.Size(self.shape).numel() != torch.Size(joined).numel():
            return None
        return joined if self.shape is None else self.shape

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The foreign tensor, from ours."""
        if not parts:
            assert self.shape is not None
            return torch.zeros(self.shape)
        joined = parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
        return joined if self.shape is None else joined.reshape(self.shape)

    def split(self, tensor: Tensor, parts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Ours, of these shapes, from the foreign tensor."""
        if len(parts) < 2:
            return [tensor.reshape(tuple(part)) for part in parts]
        rows = [part[0] for part in parts]
        return list(tensor.reshape(sum(rows), *parts[0][1:]).split_with_sizes(rows))


@dataclass(frozen=True)
class Plan:
    """How to build our model for a checkpoint, and where each of its tensors goes.

    Args:
        blocks: Arguments of `GatedCrossAttentionBlock` by layer index.
        resampler: Arguments of `PerceiverResampler`, if there is one.
        flamingo: Further arguments of `Flamingo`.
        entries: One for each tensor of the checkpoint that our model holds.
        kept: Tensors that our model has no place for, with the reason. They are kept beside it for the way back:
            constants that a language model makes itself, or what the caller has agreed to leave out.
        fresh: Trained tensors of ours that such checkpoints do not hold.
        projection: Arguments of the `nn.Linear` between tower and blocks, if there is one.

    Example:
        >>> Plan(blocks={}, resampler=None, flamingo={"media_token_id": 3}, entries=[]).kept
        {}
    """

    blocks: dict[int, dict[str, Any]]
    resampler: dict[str, Any] | None
    flamingo: dict[str, Any]
    entries: list[Entry]
    kept: dict[str, str] = field(default_factory=dict)
    fresh: frozenset[str] = frozenset()
    projection: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outline:
    """What a checkpoint tells by itself, without a language model.

    Args:
        blocks: Arguments of the blocks by layer.
        resampler: Arguments of the resampler.
        entries: Of what was trained.
        inside: Prefixes of the names that are blocks and resampler.
        layers: Dotted name of the decoder layers in the language model, where the checkpoint tells it.

    Example:
        >>> Outline(blocks={}, resampler=None, entries=[], inside=("perceiver.",)).unknown({"perceiver.new": (1,)})
        ['perceiver.new']
    """

    blocks: dict[int, dict[str, Any]]
    resampler: dict[str, Any] | None
    entries: list[Entry]
    inside: tuple[str, ...]
    layers: str | None = None

    def missing(self, shapes: Shapes) -> list[str]:
        """Names that such a checkpoint has, and this one has not."""
        return [entry.foreign for entry in self.entries if not any(name in shapes for name in entry.names)]

    def unknown(self, shapes: Shapes) -> list[str]:
        """Names in blocks and resampler that are not known."""
        known = {name for entry in self.entries for name in entry.names}
        return [name for name in shapes if name.startswith(self.inside) and name not in known]


@runtime_checkable
class Outlined(Protocol):
    """A family whose checkpoints can be described without a language model.

    Example:
        >>> from flamingo_blocks.interop import find_family, open_checkpoint
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> family = find_family("open_flamingo")
        >>> isinstance(family, Outlined)
        True
        >>> list(family.outline(open_checkpoint(tiny_open_flamingo(depth=4, every=2)).shapes).blocks)
        [1, 3]
    """

    @property
    def outline(self) -> Callable[..., Outline]:
        """Called as `outline(shapes, **options)`: sizes, and the entries of what was trained.

        It takes those options of `plan` that say what no shape does, and none that only a language model can use.
        """
        ...


@runtime_checkable
class Family(Protocol):
    """The checkpoints of one implementation.

    Example:
        >>> from flamingo_blocks.interop import find_family, open_checkpoint
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> shapes = open_checkpoint(tiny_open_flamingo()).shapes
        >>> family: Family = find_family("open_flamingo")
        >>> family.name, family.matches(shapes), find_family("idefics").matches(shapes)
        ('open_flamingo', True, False)
    """

    @property
    def name(self) -> str:
        """What it is called in `load_foreign`."""
        ...

    def matches(self, shapes: Shapes) -> bool:
        """Whether a checkpoint is of this family, by the names of its tensors."""
        ...

    @property
    def plan(self) -> Callable[..., Plan]:
        """Called as `plan(shapes, lm=, vision=, **options)`: reads the sizes, says where each tensor goes.

        All take the option `media_token_id`. A checkpoint that lacks a tensor that sizes are read off, or does not fit
        `lm` or `vision`, is a `CheckpointError`.
        """
        ...

    @property
    def entries(self) -> Callable[..., list[Entry]]:
        """Called as `entries(flamingo, **options)`: what the family's own code would save of this model."""
        ...
