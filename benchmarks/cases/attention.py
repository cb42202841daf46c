"""Attention from text to media with its projections, beside the peers' and beside the projections alone."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.contenders import WAYS, Inputs, agree, contender
from benchmarks.cases.sizes import Sizes
from benchmarks.cases.work import least_bytes, projection_flops, score_flops
from flamingo_blocks import GatedCrossAttention, MediaLayout

MEDIA = (1, 2, 5, 8, 16, 32, 64)
TINY = Sizes(media=4, tokens=8, latents=8, dim=64, vision_dim=64, heads=2, head_dim=32)
FLAMINGO_9B = Sizes(media=8, dim=4096, vision_dim=1024, heads=16, head_dim=64)
# What the peers compute, in our options.
AS_PEERS: dict[str, dict[str, Any]] = {
    OURS: {"media_norm": False},  # as open_flamingo and flamingo-pytorch
    "as_idefics": {"media_norm": False, "norm": "rms_norm", "norm_eps": 1e-6},
    "as_mllama": {"media_norm": False, "norm": "rms_norm", "norm_eps": 1e-6, "qk_norm": "rms_norm"},
}
MOST_MEDIA_OF_TWINS = 32  # these two run the kernels of another peer, which alone goes on to more items
TWINS = {"flamingo_pytorch": "open_flamingo", "mllama": "idefics"}


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Attention with its projections at every size, and its growth with the number of items."""
    batch = 16 if device == "cuda" else 1
    found = []
    for way in WAYS:
        make = partial(_case, way=way, device=device, dtype=dtype, tiny=tiny)
        found += [make(f"dim512/items{media}", Sizes(media=media, batch=batch)) for media in MEDIA]
        found += [
            make("tiny", TINY),
            make("flamingo-9b/items8", FLAMINGO_9B),
            make("all/dim512/items8", Sizes(media=8, batch=batch), scope="all"),
            _growth(Sizes(media=64, batch=batch), Sizes(media=8, batch=batch), way, device, dtype, tiny=tiny),
        ]
    return found


def tags(sizes: Sizes, *, device: str, uneven: bool = False) -> Tensor:
    """Bool [batch text], a tag at each item's first token; the first token is always one.

    Args:
        sizes: How many items and tokens.
        device: Where it lives.
        uneven: The first item has half of the row's text, the others share the rest.
    """
    starts = torch.arange(sizes.media) * sizes.tokens
    if uneven and sizes.media > 1:
        half = sizes.text // 2
        starts = torch.cat([starts[:1], half + torch.arange(sizes.media - 1) * (half // (sizes.media - 1))])
    row = torch.zeros(sizes.text, dtype=torch.bool).index_fill_(0, starts, value=True)
    return row.expand(sizes.batch, -1).to(device)


def oracle_for(sizes: Sizes, *, scope: str = "last") -> str:
    """The oracle gathers keys and values for every token, so large sizes are held against `sdpa` instead."""
    seen = 1 if scope == "last" else sizes.media
    gathered = 4 * sizes.batch * sizes.text * seen * sizes.latents * sizes.inner
    return "reference" if gathered < 2**26 else "sdpa"


def text_and_media(sizes: Sizes, way: str, device: str, dtype: str) -> Inputs:
    """Hidden states, and media as the peers take them: `[batch media latents vision_dim]`."""
    text = (sizes.batch, sizes.text, sizes.dim)
    media = (sizes.batch, sizes.media, sizes.latents, sizes.vision_dim)
    return Inputs(device, dtype, way=way, text=text, media=media)


def peer_left_out(peer: str, sizes: Sizes) -> Contender | None:
    """A peer that cannot run here or at this size, with the reason; `None` for one that can."""
    why = peers.missing(peer) or peers.refusal(peer, sizes)
    if why is None and peer in TWINS and sizes.media > MOST_MEDIA_OF_TWINS:
        why = f"left out above {MOST_MEDIA_OF_TWINS} items to save time: the computation is {TWINS[peer]}'s"
    return None if why is None else Contender.left_out(peer, why)


def never_slower(way: str) -> Bar:
    """At no size may ours be slower than open_flamingo's."""
    what = f"{way} never slower than open_flamingo's by more than 10 %"
    return Bar(what, "open_flamingo", 1.1, "at_most", slack=100e-6)


def _bars(sizes: Sizes, way: str, device: str) -> tuple[Bar, ...]:
    if (sizes.media, sizes.dim) != (32, 512):
        return (never_slower(way),)
    ratio = 5.0 if device == "cuda" else 6.5 if way == "forward" else 4.5
    faster = Bar(f"{way} at least {ratio:g}x open_flamingo's", "open_flamingo", ratio, "faster_by")
    near = Bar(f"{way} at most 1.3x the projections alone", "projections", 1.3, "at_most")
    return (never_slower(way), faster) if device == "cuda" else (never_slower(way), faster, near)


def _case(label: str, sizes: Sizes, *, way: str, device: str, dtype: str, tiny: bool, scope: str = "last") -> Case:
    """`GatedCrossAttention` beside the peers' attention with the same weights, and the projections alone."""
    bars = _bars(sizes, way, device) if scope == "last" else ()
    sizes = sizes.tiny() if tiny else sizes
    weights = (2 * sizes.dim + 2 * sizes.vision_dim) * sizes.inner
    moved = (2 * sizes.batch * sizes.text * sizes.dim, sizes.items * sizes.latents * sizes.vision_dim, weights)
    return Case(
        suite="attention",
        name=f"attention/{way}/{label}",
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare, sizes, way, device, dtype, scope),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=projection_flops(sizes, way=way) + score_flops(sizes, scope=scope, way=way),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=way),
        bar=bars,
    )


def _prepare(sizes: Sizes, way: str, device: str, dtype: str, scope: str) -> list[Contender]:
    inputs = text_and_media(sizes, way, device, dtype)
    is_media = tags(sizes, device=device)
    layout = MediaLayout.from_tokens(is_media, scope=scope).prepare()
    out = tuple(inputs["text"].shape)
    add = partial(contender, inputs=inputs, way=way, shapes=[out])
    found: list[Contender] = []
    made: dict[str, nn.ModuleDict] = {}
    for name, options in AS_PEERS.items():
        if name != OURS and peer_left_out(name.removeprefix("as_"), sizes):
            continue
        made[name] = our_attention(sizes, device, dtype, **options)
        call = partial(call_ours, made[name]["attention"], inputs, layout)
        found.append(add(name, call, module=made[name], function=name, oracle=oracle_for(sizes, scope=scope)))
    mask = peers.additive_mask(layout.mask(), sizes.latents, inputs.dtype) if "as_idefics" in made else None
    for peer in peers.PACKAGES:
        if left_out := peer_left_out(peer, sizes):
            found.append(left_out)
            continue
        function = f"as_{peer}" if f"as_{peer}" in made else OURS
        module = peers.with_our_weights(_PARTS[peer](sizes, scope), made[function])
        if function == OURS:
            run = partial(call_masked, module["attn"], inputs, is_media)
        else:
            run = partial(_normed, module, inputs, mask, _MEDIA_NAMES[peer])
        found.append(add(peer, run, module=module, function=function))
    if scope == "last":
        media_shape = (sizes.items, sizes.latents, sizes.inner)
        own = deepcopy(made[OURS])  # weights of its own: shared, they would be in the cache for who comes second
        alone = partial(_projections, own["attention"], inputs)
        found.append(add("projections", alone, module=own, shapes=[out, media_shape, media_shape]))
    return found


def our_attention(sizes: Sizes, device: str, dtype: str, **options: Any) -> nn.ModuleDict:
    """Our attention with drawn weights, under the name that it has in a block."""
    attention = GatedCrossAttention(
        sizes.dim, vision_dim=sizes.vision_dim, num_heads=sizes.heads, head_dim=sizes.head_dim, **options
    )
    module = nn.ModuleDict({"attention": attention})
    peers.draw_weights(module)
    return module.to(device, getattr(torch, dtype))


def call_ours(module: nn.Module, inputs: Inputs, layout: MediaLayout) -> Tensor:
    """A block or attention of ours on the pool."""
    out: Tensor = module(inputs["text"], inputs["media"].flatten(0, 1), layout)
    return out


def _projections(attention: Any, inputs: Inputs) -> tuple[Tensor, ...]:
    """The same norm and matrix products with nothing between them: the time that no attention can go below."""
    media = inputs["media"].flatten(0, 1)
    out = attention.o_proj(attention.q_proj(attention.norm(inputs["text"])))
    return out, attention.k_proj(media), attention.v_proj(media)


def call_masked(peer: Callable[..., Tensor], inputs: Inputs, is_media: Tensor) -> Tensor:
    """A block or attention that takes media row by row, and the places of their tags."""
    return peer(inputs["text"], inputs["media"], media_locations=is_media)


def _normed(module: Any, inputs: Inputs, mask: Tensor, media_name: str) -> Tensor:
    """IDEFICS and Mllama norm the text in the layer around; the mask is made once for all layers, as they do."""
    text = module["input_layernorm"](inputs["text"])
    media = inputs["media"].flatten(1, 2)
    out: Tensor = module["cross_attn"](hidden_states=text, attention_mask=mask, **{media_name: media})[0]
    return out


def _flamingo_parts(peer: str, sizes: Sizes, scope: str) -> nn.ModuleDict:
    last_alone = {"only_attend_immediate_media": scope == "last"}
    return nn.ModuleDict({"attn": peers.flamingo_part(peer, sizes, part="MaskedCrossAttention", **last_alone)})


def _layer_parts(build: Callable[..., Any], sizes: Sizes, _: str) -> nn.ModuleDict:
    layer = build(sizes, hidden_dim=sizes.dim)
    return nn.ModuleDict({"input_layernorm": layer.input_layernorm, "cross_attn": layer.cross_attn})


_MEDIA_NAMES = {"idefics": "key_value_states", "mllama": "cross_attention_states"}
_PARTS: dict[str, Callable[[Sizes, str], nn.ModuleDict]] = {
    "open_flamingo": partial(_flamingo_parts, "open_flamingo"),
    "flamingo_pytorch": partial(_flamingo_parts, "flamingo_pytorch"),
    "idefics": partial(_layer_parts, peers.idefics_layer),
    "mllama": partial(_layer_parts, peers.mllama_layer),
}


def _growth(large: Sizes, small: Sizes, way: str, device: str, dtype: str, *, tiny: bool) -> Case:
    """The same at two numbers of items: the work is linear in the text."""
    other, name = f"items{small.media}", f"attention/growth/{way}/dim512/items{large.media}"
    ratio = 1.25 * large.media / small.media
    bar = Bar(f"{way} of {large.media} items at most {ratio:g}x that of {small.media}", other, ratio, "at_most")
    if tiny:
        large, small = large.tiny(), small.tiny()
    return Case(
        suite="attention",
        name=name,
        sizes=large.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare_growth, {OURS: large, other: small}, way, device, dtype),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=projection_flops(large, way=way) + score_flops(large, way=way),
        bar=(bar,),
    )


def _prepare_growth(sizes_of: dict[str, Sizes], way: str, device: str, dtype: str) -> list[Contender]:
    module = our_attention(sizes_of[OURS], device, dtype, **AS_PEERS[OURS])
    found: list[Contender] = []
    for name, sizes in sizes_of.items():
        inputs = text_and_media(sizes, way, device, dtype)
        layout = MediaLayout.from_tokens(tags(sizes, device=device)).prepare()
        call = partial(call_ours, module["attention"], inputs, layout)
        add = partial(contender, inputs=inputs, module=module, way=way, shapes=[tuple(inputs["text"].shape)])
        made = add(name, call, function=name, oracle=oracle_for(sizes))
        found.append(replace(made, same_work=name == OURS))
    return found
