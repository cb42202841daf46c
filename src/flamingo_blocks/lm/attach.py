"""Put blocks in front of the layers of any decoder, by hooks, and take them off again without a trace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.lm.cached_length import CountedCaches, cache_of
from flamingo_blocks.lm.find_layers import find_decoder_layers, layer_device
from flamingo_blocks.lm.find_text import check_text_argument, find_text
from flamingo_blocks.lm.media_state import MediaState, project
from flamingo_blocks.ops.media_layout import MediaLayout
from flamingo_blocks.ops.take_seen import hide_unseen


def attach(
    lm: nn.Module, blocks: Mapping[int, nn.Module], *, layers: str | None = None, text_argument: str | None = None
) -> "Attachment":
    """Put blocks in front of decoder layers, without touching the model.

    Forward pre-hooks do all of it: no key of the model is renamed, no class swapped, no attribute left behind, and
    nothing is computed, so models on the meta device, sharded or dispatched ones attach as well. Afterwards the model
    runs only inside `attachment.media(...)` or `attachment.without_media()`, so that no call forgets its media.

    Args:
        lm: Any decoder language model: of transformers, or plain torch.
        blocks: A block for each layer index; block `i` runs before layer `i`. A block is called as
            `block(text, media, layout, valid=...)`, like `GatedCrossAttentionBlock`.
        layers: Dotted name of the list of decoder layers; found by itself where only one can be meant.
        text_argument: Name of the argument by which a layer takes its hidden states [batch text dim]. By default
            their first, or `hidden_states`: say it for layers that take something else first, such as the memory of an
            encoder.

    Returns:
        The attachment: the blocks, and the contexts to run the model in.

    Raises:
        LayersNotFoundError: If the layers cannot be found; the message lists the candidates.
        TypeError: If `blocks` is no mapping from layer indices to modules.
        ValueError: If it is empty, a layer index does not exist, a layer has a block already, or its `forward` has no
            argument `text_argument`.

    Example:
        >>> from flamingo_blocks import GatedCrossAttentionBlock
        >>> lm = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), num_layers=2, enable_nested_tensor=False)
        >>> attachment = attach(lm, {0: GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2)})
        >>> attachment.detach() is lm
        True

    Source:
        Flamingo (arXiv 2204.14198), section 2.2: new layers between frozen ones, before them, from the first on.
    """
    _check_blocks(blocks)
    decoder = find_decoder_layers(lm, layers)
    for index in blocks:
        if not 0 <= index < len(decoder.layers):
            raise ValueError(
                f"blocks has a block for layer {index}, but {decoder.name!r} has layers 0 to {len(decoder.layers) - 1}"
            )
        if has_block(decoder.layers[index]):
            raise ValueError(f"layer {index} of {decoder.name!r} has a block already; call detach() on it first")
        check_text_argument(decoder.layers[index], text_argument)
    attachment = Attachment(lm, blocks)
    attachment._hook(decoder.decoder, _DecoderHook(attachment))
    for index in blocks:
        attachment._layers[str(index)] = decoder.layers[index]
        attachment._hook(decoder.layers[index], _BlockHook(attachment, str(index), text_argument))
    return attachment


def _check_blocks(blocks: object) -> None:
    wanted = "wanted a mapping from layer index to block, such as {0: block}"
    if not isinstance(blocks, Mapping):
        raise TypeError(f"blocks is a {type(blocks).__name__}, {wanted}")
    if not blocks:
        raise ValueError(f"blocks is empty, {wanted}; every_layer(lm, make_block) makes them")
    for index, block in blocks.items():
        if not isinstance(index, Integral) or not isinstance(block, nn.Module):
            raise TypeError(f"blocks holds {index!r}: {type(block).__name__}, {wanted}")


def has_block(layer: nn.Module) -> bool:
    """Whether a block stands before a layer."""
    return any(isinstance(hook, _BlockHook) for hook in layer._forward_pre_hooks.values())


@dataclass
class _Call:
    """What the hooks share within one `with` block: the state, and the columns of the running call."""

    state: MediaState | None
    fixed_past: int | None
    whole: bool = False
    past: int = 0
    cached: bool = False  # whether the running call has a cache
    windows: dict[tuple[int, torch.device], MediaLayout] = field(default_factory=dict)
    counted: CountedCaches = field(default_factory=CountedCaches)

    def window(self, num_text: int, device: torch.device) -> MediaLayout:
        """The layout's columns for the tokens of this call, once for all layers."""
        if (num_text, device) not in self.windows:
            assert self.state is not None and self.state.layout is not None
            layout = self.state.layout
            if self.whole and not self.cached and num_text < layout.num_text:
                raise RuntimeError(
                    f"a layer was called with {num_text} of {layout.num_text} tokens, so its block may stand on "
                    "another tensor than the text; name the argument that has it: attach(lm, blocks, text_argument=...)"
                )
            if self.past or num_text != layout.num_text:
                layout = layout.slice(self.past, self.past + num_text)
            self.windows[num_text, device] = layout.to(device)
        return self.windows[num_text, device]


class Attachment:
    """Blocks that are attached to a language model; made by `attach`.

    Args:
        lm: The language model.
        blocks: The blocks by layer index.

    Example:
        >>> from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout
        >>> lm = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), num_layers=2, enable_nested_tensor=False)
        >>> attachment = attach(lm, {0: GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2)})
        >>> layout = MediaLayout.from_tokens(torch.tensor([[False, True, False]]))
        >>> with attachment.media(MediaState(media=torch.randn(1, 4, 8), layout=layout)):
        ...     lm(torch.zeros(1, 3, 8)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, lm: nn.Module, blocks: Mapping[int, nn.Module]) -> None:
        self.lm = lm
        self.blocks = nn.ModuleDict({str(index): block for index, block in sorted(blocks.items())})
        self._layers: dict[str, nn.Module] = {}
        self._hooks: list[tuple[nn.Module, Any, Any]] = []  # module, hook, handle
        self._call: _Call | None = None

    def __repr__(self) -> str:
        layers = ", ".join(self.blocks) if self.attached else "none: detached"
        return f"Attachment({type(self.lm).__name__}, layers with a block: {layers})"

    @property
    def attached(self) -> bool:
        """Whether the blocks are in the model, which `detach` ends."""
        return bool(self._hooks)

    @contextmanager
    def media(self, state: MediaState, *, past: int | None = None, whole: bool = False) -> Iterator[None]:
        """Run the model with media; clears itself, on errors too.

        Args:
            state: Media and layout. The layout covers the whole text, cached part included.
            past: Tokens that a cache of the model holds already. Transformers' caches are asked by themselves; say it
                for other decoders that cache.
            whole: Whether each call runs the whole text, but for what a cache holds. A shorter call without a cache
                that can be asked is an error then, instead of the first columns of the text.

        The pool may hold items that no tag of the layout names: it may be shared, and they are not looked at.

        Raises:
            TypeError: If `state` is no `MediaState`.
            ValueError: If the state has no layout; within the block, if it cannot be told which argument of a layer is
                the text.
            RuntimeError: If the blocks were detached, or another `media` or `without_media` block is open; within the
                block, if a call does not tell how many tokens its cache holds.
        """
        if not isinstance(state, MediaState):
            raise TypeError(
                f"state is a {type(state).__name__}, wanted a MediaState: MediaState(media=media, layout=layout)"
            )
        if not self.attached:
            raise RuntimeError("these blocks were detached from the language model; attach them again by attach()")
        if state.layout is None:
            raise MediaMaskError(
                "state has no layout; give it one with state.with_layout(MediaLayout.from_tokens(...))"
            )
        with self._open(_Call(state, past, whole)):
            yield

    @contextmanager
    def without_media(self) -> Iterator[None]:
        """Run the bare language model, bit for bit: the blocks are skipped.

        A text that merely has no media is another thing: an empty layout, where dense layers run.

        Raises:
            RuntimeError: If another `media` or `without_media` block is open.
        """
        with self._open(_Call(None, None)):
            yield

    def project(self, state: MediaState) -> MediaState:
        """Project the media once for every block, so that no later call projects them again.

        Args:
            state: Media, with or without a layout.

        Returns:
            The state with each block's keys and values.
        """
        if state.projected is not None:
            return state
        media = hide_unseen(state.media, state.layout)
        projected = {name: project(block, media, state.valid) for name, block in self.blocks.items()}
        return replace(state, projected=projected, blocks=self.blocks)

    def move_to_front(self) -> None:
        """Put our hooks before all others of their layers, such as those that FSDP set later."""
        hooks, self._hooks = self._hooks, []
        for module, hook, handle in hooks:
            handle.remove()
            self._hook(module, hook, prepend=True)

    def move_to_layers(self) -> None:
        """Move each block to the device of its layer, for a language model that is spread over several.

        Media and text follow the block at each call.
        """
        for index, layer in self._layers.items():
            device = layer_device(layer)
            if device is not None:
                self.blocks[index].to(device)

    def detach(self) -> nn.Module:
        """Take the blocks off.

        Returns:
            The language model as it was before, bit for bit.

        Raises:
            RuntimeError: If a `media` or `without_media` block is open.
        """
        if self._call is not None:
            raise RuntimeError("detach() inside media() or without_media(); leave the with block first")
        for _, _, handle in self._hooks:
            handle.remove()
        self._hooks = []
        return self.lm

    @contextmanager
    def _open(self, call: _Call) -> Iterator[None]:
        if self._call is not None:
            raise RuntimeError(
                "media() or without_media() is open already, or another thread is running this model; leave that with "
                "block first, or give each thread a copy of the model"
            )
        self._call = call
        try:
            yield
        finally:
            self._call = None

    def _hook(self, module: nn.Module, hook: Any, *, prepend: bool = False) -> None:
        handle = module.register_forward_pre_hook(hook, with_kwargs=True, prepend=prepend)
        self._hooks.append((module, hook, handle))


class _DecoderHook:
    """Reads how many tokens the cache holds, once a call, before the first layer."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.attachment._call
        if call is None:
            return
        call.windows = {}
        call.cached = call.fixed_past is not None or cache_of(args, kwargs) is not None
        if call.fixed_past is not None:
            call.past = call.fixed_past
            return
        call.past = call.counted.past(args, kwargs, layout=_layout_of(call), whole=call.whole)


def _layout_of(call: _Call) -> MediaLayout | None:
    return None if call.state is None else call.state.layout


class _BlockHook:
    """Runs a block on the input of its layer."""

    def __init__(self, attachment: Attachment, name: str, text_argument: str | None) -> None:
        self.attachment = attachment
        self.name = name
        self.text_argument = text_argument

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = self.attachment._call
        if call is None:
            raise RuntimeError(
                "a language model with blocks was called without media; wrap the call in attachment.media(state), "
                "or in attachment.without_media() to run the bare model"
            )
        if call.state is None:
            return None
        if _recomputes_hooks(module):
            raise ValueError(
                "this version of transformers recomputes the hooks of a layer together with the layer, when no media "
                "are there; call gradient_checkpointing_disable() on the language model, and checkpoint_layers(lm) or "
                "Flamingo.checkpoint_activations() instead"
            )
        text, place = find_text(module, args, kwargs, named=self.text_argument)
        # accelerate brings what enters a layer to its device inside the layer, which is behind this hook
        device = next((p.device for p in self.attachment.blocks[self.name].parameters()), text.device)
        if device != text.device and device.type != "meta":
            text = text.to(device)
        new = self._run(text, call.state, call.window(text.shape[1], text.device))
        if isinstance(place, str):
            return args, {**kwargs, place: new}
        return (*args[:place], new, *args[place + 1 :]), kwargs

    def _run(self, text: Tensor, state: MediaState, layout: MediaLayout) -> Tensor:
        block = self.attachment.blocks[self.name]
        out: Tensor
        if state.projected is not None:
            out = block(text, state.projected[self.name].to(text.device), layout)
        else:
            valid = None if state.valid is None else state.valid.to(text.device)
            out = block(text, state.media.to(text.device), layout, valid=valid)
        return out


def _recomputes_hooks(layer: nn.Module) -> bool:
    """Whether a layer's own checkpointing wraps its call; in newer transformers it wraps `forward`, behind our hook."""
    told = getattr(layer, "gradient_checkpointing", False) and layer.training and torch.is_grad_enabled()
    return bool(told) and type(layer).__call__ is not nn.Module.__call__
