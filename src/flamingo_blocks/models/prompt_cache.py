"""Copies of a language model's cache, with room for the tokens that follow; loads transformers, whose they are."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

SPARE = 16  # columns beyond those asked for, so that a few tokens more do not copy everything


def fork(cache: Any, *, repeats: int, room: int) -> Any:
    """A copy of a cache that a call may change.

    Args:
        cache: A cache of transformers; it stays as it is.
        repeats: How often each row is wanted, one copy behind the other.
        room: Tokens that will follow.

    Returns:
        The copy. Layers that grow by concatenation have the room already: concatenating copies everything that many
        queries share, at every step, and costs more than running the model on a short query.
    """
    layers = getattr(cache, "layers", None)
    if layers is None or any(type(layer) not in (DynamicLayer, RoomyLayer) for layer in layers):
        cache = copy.deepcopy(cache)
        if repeats > 1:
            cache.batch_repeat_interleave(repeats)
        return cache
    forked = copy.copy(cache)
    alike = AlikeRows(repeats)
    forked.layers = [RoomyLayer.of(layer, repeats=repeats, room=room, alike=alike) for layer in layers]
    return forked


def borrow(cache: Any) -> Any:
    """A cache for one call without gradients whose own tokens nobody needs afterwards.

    Args:
        cache: A cache of transformers. What it holds stays as it is; the memory behind that is written to.

    Returns:
        A cache that shares memory with it, or a copy where the kind of cache is not known to leave old tokens alone.
    """
    layers = getattr(cache, "layers", None)
    if layers is None or any(type(layer) not in (DynamicLayer, RoomyLayer) for layer in layers):
        return copy.deepcopy(cache)
    borrowed = copy.copy(cache)
    borrowed.layers = [copy.copy(layer) for layer in layers]
    for layer in borrowed.layers:
        if isinstance(layer, RoomyLayer):
            layer._alike = None  # rows that change places would do so for the lender too
    return borrowed


class AlikeRows:
    """Rows that are copies of one another, in groups that stand side by side.

    Args:
        repeats: Rows of a group.
    """

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self._asked: tuple[Tensor, int, bool] | None = None

    def keep(self, order: Tensor) -> bool:
        """Whether each row stays in its group; all layers ask of one order, whose values are read once."""
        version = -1 if order.is_inference() else order._version  # others tell when they were changed in place
        if self._asked is None or self._asked[0] is not order or version < 0 or self._asked[1] != version:
            places = torch.arange(len(order), device=order.device) // self.repeats
            self._asked = (order, version, bool((order // self.repeats == places).all()))
        return self._asked[2]


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """A layer of a cache that writes new tokens behind the old ones, into memory that is there already.

    Keys and values are views of longer buffers. Where they are not (rows were reordered), the room is used up, or it
    may not be written to (made in inference mode, used outside it), they move into new buffers once, which costs what
    a concatenation costs. Beams of one text that change places leave the prompt that they share where it is: only what
    is behind it moves. A layer concatenates, as its parent does, in compiled code, where new tokens are of another
    dtype, and, with gradients enabled, where tokens require them or there are no buffers left: a graph may keep what is
    moved.
    """

    keys: Any
    values: Any

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._alike: AlikeRows | None = None
        self._num_alike = 0  # columns that the rows of a group have alike

    @classmethod
    def of(cls, layer: Any, *, repeats: int, room: int, alike: AlikeRows | None = None) -> "RoomyLayer":
        """A layer with the same keys and values, each row `repeats` times, and room for more."""
        new = cls()
        if layer.is_initialized:
            new.lazy_initialization(layer.keys, layer.values)
            if layer.get_seq_length():
                new._move(layer.keys, layer.values, repeats=repeats, room=room + SPARE)
                new._alike, new._num_alike = alike, layer.keys.shape[-2]
        return new

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add tokens; see the parent class."""
        if not self._may_write(key_states, value_states):
            self._buffers = None
            grown: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return grown
        start, stop = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if not self._is_in_buffers():
            self._move(self.keys, self.values, repeats=1, room=stop - start + SPARE)
        assert self._buffers is not None
        if stop > self._buffers[0].shape[-2]:
            self._move(self.keys, self.values, repeats=1, room=stop - start + SPARE + start // 4)
        key_buffer, value_buffer = self._buffers
        key_buffer[..., start:stop, :] = key_states
        value_buffer[..., start:stop, :] = value_states
        self.keys, self.values = key_buffer[..., :stop, :], value_buffer[..., :stop, :]
        self._num_alike = min(self._num_alike, start)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put rows into another order; see the parent class."""
        if not self._stay_alike(beam_idx):
            super().reorder_cache(beam_idx)
            return
        assert self._buffers is not None
        for buffer in self._buffers:
            own = buffer[..., self._num_alike : self.keys.shape[-2], :]
            own.copy_(own.index_select(0, beam_idx.to(own.device)))

    def __deepcopy__(self, memo: dict[int, Any]) -> "RoomyLayer":
        """A copy with buffers of its own: views and buffers copied one by one would no longer share memory."""
        new = self.of(self, repeats=1, room=0)
        memo[id(self)] = new
        return new

    def _move(self, keys: Tensor, values: Tensor, *, repeats: int, room: int) -> None:
        """Copy into new buffers, in one pass whatever `repeats` is."""
        kept = keys.shape[-2]
        buffers = []
        for old in (keys, values):
            rows, heads, _, head_dim = old.shape
            buffer = old.new_empty(rows, repeats, heads, kept + room, head_dim)
            buffer[..., :kept, :] = old[:, None]
            buffers.append(buffer.flatten(0, 1))
        self._alike = None
        self._buffers = (buffers[0], buffers[1])
        self.keys, self.values = buffers[0][..., :kept, :], buffers[1][..., :kept, :]

    def _may_write(self, key_states: Tensor, value_states: Tensor) -> bool:
        """Whether tokens may go into memory that is there, or is made: no graph keeps it, and they fit its dtype."""
        if torch.compiler.is_compiling() or not self.get_seq_length():  # compiled code cannot tell where memory lies
            return False
        if (key_states.dtype, value_states.dtype) != (self.keys.dtype, self.values.dtype):
            return False
        if not torch.is_grad_enabled():
            return True
        return self._is_in_buffers() and not (key_states.requires_grad or value_states.requires_grad)

    def _stay_alike(self, order: Tensor) -> bool:
        """Whether an order leaves the columns as they are that the rows of a group have alike."""
        if self._alike is None or torch.compiler.is_compiling() or torch.is_grad_enabled():
            return False
        return len(order) == self.keys.shape[0] and self._is_in_buffers() and self._alike.keep(order)

    def _is_in_buffers(self) -> bool:
        """Whether keys and values are the front of buffers that may be written to, cropped perhaps."""
        if self._buffers is None or (self._buffers[0].is_inference() and not torch.is_inference_mode_enabled()):
            return False
        pairs = zip((self.keys, self.values), self._buffers, strict=True)
        return all(
            (held.data_ptr(), held.shape[:2], held.stride()) == (buffer.data_ptr(), buffer.shape[:2], buffer.stride())
            for held, buffer in pairs
        )
