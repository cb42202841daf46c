"""One decoding step of a gated block: one new token a row, its media seen before."""

import importlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.attention import AS_PEERS, peer_left_out, tags
from benchmarks.cases.block import block_options, our_block
from benchmarks.cases.contenders import Inputs, agree, contender
from benchmarks.cases.sizes import Sizes
from benchmarks.cases.work import least_bytes, step_flops
from flamingo_blocks import MediaLayout

MEDIA = (1, 8, 32, 64)


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """A step at several numbers of items, and the same with many items beside one."""
    found = [_case(Sizes(media=media, batch=2), device, dtype, tiny=tiny) for media in MEDIA]
    return [*found, _growth(Sizes(media=64, batch=2), device, dtype, tiny=tiny)]


def _case(sizes: Sizes, device: str, dtype: str, *, tiny: bool) -> Case:
    bars = [Bar("a step at most 1.5x its projections and feed-forward layer", "projections", 1.5, "at_most")]
    if sizes.media == 32:
        bars.append(Bar("a step at least 30x open_flamingo's", "open_flamingo", 30, "faster_by"))
    name = f"decode/dim512/items{sizes.media}"
    return _make(name, sizes.tiny() if tiny else sizes, device, dtype, _prepare, tuple(bars))


def _growth(sizes: Sizes, device: str, dtype: str, *, tiny: bool) -> Case:
    bar = Bar("a step with 64 items at most 1.15x one with 1 item", "items1", 1.15, "at_most")
    name = f"decode/growth/dim512/items{sizes.media}"
    return _make(name, sizes.tiny() if tiny else sizes, device, dtype, _prepare_growth, (bar,))


def _make(
    name: str, sizes: Sizes, device: str, dtype: str, prepare: Callable[..., list[Contender]], bar: tuple[Bar, ...]
) -> Case:
    weights = 4 * sizes.dim * sizes.inner // 2 + 8 * sizes.dim**2
    moved = (weights, sizes.batch * 2 * sizes.latents * sizes.inner, 2 * sizes.batch * sizes.dim)
    return Case(
        suite="decode",
        name=name,
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(prepare, sizes, device, dtype),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=step_flops(sizes, hidden_dim=4 * sizes.dim),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize),
        bar=bar,
    )


def _new_token(sizes: Sizes, device: str, dtype: str) -> Inputs:
    return Inputs(device, dtype, way="forward", text=(sizes.batch, 1, sizes.dim))


def _old_media(sizes: Sizes, device: str, dtype: str) -> Tensor:
    """What was seen before stays as it is from step to step."""
    shape = (sizes.batch, sizes.media, sizes.latents, sizes.vision_dim)
    return Inputs(device, dtype, way="forward", media=shape)["media"]


def _prepare(sizes: Sizes, device: str, dtype: str) -> list[Contender]:
    inputs, media = _new_token(sizes, device, dtype), _old_media(sizes, device, dtype)
    is_media = tags(sizes, device=device)
    found: list[Contender] = []
    made: dict[str, nn.Module] = {}
    for name in AS_PEERS:
        if name != OURS and peer_left_out(name.removeprefix("as_"), replace(sizes, media=1)):
            continue
        made[name] = our_block(sizes, device, dtype, **block_options(name, sizes))
        found.append(_our_step(name, made[name], inputs, media, MediaLayout.from_tokens(is_media)))
    add = partial(contender, inputs=inputs, way="forward", shapes=[tuple(inputs["text"].shape)])
    for peer in ("open_flamingo", "idefics", "mllama"):  # flamingo-pytorch has no way of decoding
        if left_out := peer_left_out(peer, replace(sizes, media=1)):
            found.append(left_out)
            continue
        function = f"as_{peer}" if f"as_{peer}" in made else OURS
        module = peers.with_our_weights(_PEERS[peer](sizes), made[function])
        run = _STEPS[peer](module, inputs, media, is_media)
        found.append(add(peer, run, module=module, function=function))
    own = deepcopy(made[OURS])  # weights of its own: shared, they would be in the cache for who comes second
    return [*found, add("projections", partial(_projections, own, inputs), module=own)]


def _prepare_growth(sizes: Sizes, device: str, dtype: str) -> list[Contender]:
    block = our_block(sizes, device, dtype, **block_options(OURS, sizes))
    found: list[Contender] = []
    for name, media in ((OURS, sizes.media), ("items1", 1)):
        own = replace(sizes, media=media)
        layout = MediaLayout.from_tokens(tags(own, device=device))
        found.append(_our_step(name, block, _new_token(own, device, dtype), _old_media(own, device, dtype), layout))
    return found


def _our_step(name: str, block: Any, inputs: Inputs, media: Tensor, prompt: MediaLayout) -> Contender:
    """A step as `attach` does it: the keys and values of the prompt's media, and the layout's next column.

    The column is new for every call, as it is for every step; the blocks of a model share it.
    """
    with torch.no_grad():
        cached = block.project_media(media.flatten(0, 1))
    column: list[MediaLayout] = []

    def fresh(seed: int) -> None:
        inputs.fresh(seed)
        column[:] = [prompt.slice(prompt.num_text, prompt.num_text + 1)]

    def step() -> Tensor:
        out: Tensor = block(inputs["text"], cached, column[0])
        return out

    shapes = [tuple(inputs["text"].shape)]
    made = contender(
        name, step, inputs=inputs, module=block, way="forward", shapes=shapes, function=name, oracle="reference"
    )
    return replace(made, fresh=fresh)


def _projections(block: Any, inputs: Inputs) -> Tensor:
    """The block without its attention: norms, projections of the token, gates, feed-forward layer."""
    text, attention = inputs["text"], block.attention
    text = text + block.attention_gate(attention.o_proj(attention.q_proj(attention.norm(text))))
    out: Tensor = text + block.feed_forward_gate(block.feed_forward(text))
    return out


def _open_flamingo(peer: nn.Module, inputs: Inputs, media: Tensor, is_media: Tensor) -> Callable[[], Tensor]:
    """It keeps where the prompt's media were, and projects them again."""
    return lambda: peer(inputs["text"], media, media_locations=is_media, use_cached_media=True)


def _last_row(media: Tensor, like: Tensor) -> Tensor:
    """The mask of a token that sees the last item."""
    batch, items, latents = media.shape[:3]
    sees = torch.zeros(batch, 1, items, dtype=torch.bool, device=media.device)
    sees[..., -1] = True
    return peers.additive_mask(sees, latents, like.dtype)


def _idefics(layer: nn.Module, inputs: Inputs, media: Tensor, _: Tensor) -> Callable[[], Tensor]:
    """It projects the media again as well."""
    arguments = {
        "image_hidden_states": media.flatten(1, 2),
        "image_attention_mask": _last_row(media, inputs["text"]),
        "cross_attention_gate": torch.ones(inputs["text"].shape[:2], device=media.device),
    }
    return lambda: layer(inputs["text"], **arguments)


def _mllama(layer: nn.Module, inputs: Inputs, media: Tensor, _: Tensor) -> Callable[[], Tensor]:
    """It has keys and values in the language model's cache."""
    arguments: dict[str, Any] = {
        "cross_attention_mask": _last_row(media, inputs["text"]),
        "attention_mask": None,
        "full_text_row_masked_out_mask": inputs["text"].new_ones(inputs["text"].shape[0], 1, 1, 1),
        "past_key_values": importlib.import_module("transformers").DynamicCache(),
    }
    with torch.no_grad():
        layer(inputs["text"], cross_attention_states=media.flatten(1, 2), **arguments)
    return lambda: layer(inputs["text"], cross_attention_states=None, **arguments)


_PEERS: dict[str, Callable[[Sizes], nn.Module]] = {
    "open_flamingo": partial(peers.flamingo_part, "open_flamingo"),
    "idefics": lambda sizes: peers.idefics_layer(sizes, hidden_dim=sizes.gated_hidden),
    "mllama": lambda sizes: peers.mllama_layer(sizes, hidden_dim=sizes.gated_hidden),
}
_STEPS: dict[str, Callable[..., Callable[[], Tensor]]] = {
    "open_flamingo": _open_flamingo,
    "idefics": _idefics,
    "mllama": _mllama,
}
