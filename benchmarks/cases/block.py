"""The gated block: cross-attention, gates and feed-forward layer, beside the peers' blocks with the same weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import LIMIT, OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.attention import (
    AS_PEERS,
    call_masked,
    call_ours,
    never_slower,
    oracle_for,
    peer_left_out,
    tags,
    text_and_media,
)
from benchmarks.cases.contenders import WAYS, Inputs, agree, contender
from benchmarks.cases.sizes import Sizes
from benchmarks.cases.work import feed_forward_flops, least_bytes, projection_flops, score_flops
from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout

MEDIA = (1, 8, 32, 64)
# Of the first, bars are said on the GPU: 16k tokens and more.
FLAMINGO_9B = {"cuda": Sizes(media=32, batch=16, dim=4096, vision_dim=1024, heads=16, head_dim=64),
               "cpu": Sizes(media=8, dim=4096, vision_dim=1024, heads=16, head_dim=64)}  # fmt: skip


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """The block at several numbers of items, and at the geometry of OpenFlamingo-9B."""
    batch = 16 if device == "cuda" else 1
    found = []
    for way in WAYS:
        make = partial(_case, way=way, device=device, dtype=dtype, tiny=tiny)
        for media in MEDIA:
            quick = device == "cuda" or media < MEDIA[-1]  # peers take seconds a call there, and a minute of ten
            found.append(make(f"dim512/items{media}", Sizes(media=media, batch=batch), quick=quick))
    for way in (*WAYS, "backward") if device == "cuda" else WAYS:
        sizes = FLAMINGO_9B[device]
        make = partial(_case, way=way, device=device, dtype=dtype, tiny=tiny, quick=device == "cuda")
        found.append(make(f"flamingo-9b/items{sizes.media}", sizes))
    return found


def block_options(name: str, sizes: Sizes) -> dict[str, Any]:
    """What the peers compute, in our options; the gated activation has as many weights as the plain one."""
    if name == OURS:
        return {**AS_PEERS[name], "activation": "gelu"}
    alike = {**AS_PEERS[name], "activation": "swiglu", "hidden_dim": sizes.gated_hidden}
    return alike if name == "as_idefics" else {**alike, "dense_without_media": False}


def our_block(sizes: Sizes, device: str, dtype: str, **options: Any) -> GatedCrossAttentionBlock:
    """Our block with drawn weights, its gates open."""
    block = GatedCrossAttentionBlock(
        sizes.dim, vision_dim=sizes.vision_dim, num_heads=sizes.heads, head_dim=sizes.head_dim, **options
    )
    peers.draw_weights(block)
    return block.to(device, getattr(torch, dtype))


def _bars(sizes: Sizes, way: str, device: str) -> tuple[Bar, ...]:
    bars = [never_slower(way)]
    if way == "forward+backward" and (sizes.media, sizes.dim) == (32, 512):
        for metric, memory in (("saved_bytes", "bytes saved for backward"), ("peak_bytes", "peak memory")):
            bars.append(Bar(f"{memory} at most 0.35x open_flamingo's", "open_flamingo", 0.35, "at_most", metric))
    if device == "cuda" and sizes.dim == 4096 and way != "forward+backward":
        bars.append(Bar(f"{way} at 70 % or more of the measured peak of matrix products", LIMIT, 1 / 0.7, "at_most"))
    return tuple(bars)


def _case(label: str, sizes: Sizes, *, way: str, device: str, dtype: str, tiny: bool, quick: bool = True) -> Case:
    bars = _bars(sizes, way, device)
    sizes = sizes.tiny() if tiny else sizes
    weights = (2 * sizes.dim + 2 * sizes.vision_dim) * sizes.inner + 8 * sizes.dim**2
    moved = (2 * sizes.batch * sizes.text * sizes.dim, sizes.items * sizes.latents * sizes.vision_dim, weights)
    attention = projection_flops(sizes, way=way) + score_flops(sizes, way=way)
    return Case(
        suite="block",
        name=f"block/{way}/{label}",
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare, sizes, way, device, dtype),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=attention + feed_forward_flops(sizes, hidden_dim=4 * sizes.dim, way=way),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=way),
        bar=bars,
        quick=quick,
    )


def _prepare(sizes: Sizes, way: str, device: str, dtype: str) -> list[Contender]:
    inputs = text_and_media(sizes, way, device, dtype)
    is_media = tags(sizes, device=device)
    layout = MediaLayout.from_tokens(is_media).prepare()
    add = partial(contender, inputs=inputs, way=way, shapes=[tuple(inputs["text"].shape)])
    found: list[Contender] = []
    made: dict[str, GatedCrossAttentionBlock] = {}
    for name in AS_PEERS:
        if name != OURS and peer_left_out(name.removeprefix("as_"), sizes):
            continue
        made[name] = our_block(sizes, device, dtype, **block_options(name, sizes))
        call = partial(call_ours, made[name], inputs, layout)
        found.append(add(name, call, module=made[name], function=name, oracle=oracle_for(sizes)))
    mask = peers.additive_mask(layout.mask(), sizes.latents, inputs.dtype) if "as_idefics" in made else None
    for peer in peers.PACKAGES:
        if left_out := peer_left_out(peer, sizes):
            found.append(left_out)
            continue
        function = f"as_{peer}" if f"as_{peer}" in made else OURS
        if function == OURS:
            module = peers.with_our_weights(peers.flamingo_part(peer, sizes), made[OURS])
            run: Callable[[], Tensor] = partial(call_masked, module, inputs, is_media)
        else:
            build = peers.idefics_layer if peer == "idefics" else peers.mllama_layer
            module = peers.with_our_weights(build(sizes, hidden_dim=sizes.gated_hidden), made[function])
            run = partial(_CALLS[peer], module, inputs, mask)
        found.append(add(peer, run, module=module, function=function))
    return found


def _idefics(layer: nn.Module, inputs: Inputs, mask: Tensor) -> Tensor:
    """Every token sees an item, so its gate on the tokens is open."""
    gate = torch.ones(inputs["text"].shape[:2], device=mask.device)
    media = inputs["media"].flatten(1, 2)
    out: Tensor = layer(inputs["text"], image_hidden_states=media, image_attention_mask=mask, cross_attention_gate=gate)
    return out


def _mllama(layer: nn.Module, inputs: Inputs, mask: Tensor) -> Tensor:
    open_rows = torch.ones(
        (inputs["text"].shape[0], 1, inputs["text"].shape[1], 1), dtype=mask.dtype, device=mask.device
    )
    out: Tensor = layer(
        inputs["text"], cross_attention_states=inputs["media"].flatten(1, 2), cross_attention_mask=mask,
        attention_mask=None, full_text_row_masked_out_mask=open_rows,
    )  # fmt: skip
    return out


_CALLS: dict[str, Callable[..., Tensor]] = {"idefics": _idefics, "mllama": _mllama}
