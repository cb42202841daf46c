"""Attention without its projections: beside open_flamingo's code for the same, and all backends side by side."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.attention import oracle_for, tags
from benchmarks.cases.contenders import WAYS, Inputs, agree, contender
from benchmarks.cases.sizes import Sizes
from benchmarks.cases.work import least_bytes, score_flops
from flamingo_blocks import MediaLayout, available_backends, media_attention


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Scores to output; backends on even, uneven and short runs, one item, one token, and all items seen."""
    batch = 16 if device == "cuda" else 1
    found = []
    for way in WAYS:
        make = partial(_case, way=way, device=device, dtype=dtype, tiny=tiny)
        many, few = Sizes(media=32, batch=batch), Sizes(media=8, batch=batch)
        faster = Bar(f"scores to output, {way}, at least 10x open_flamingo's", "open_flamingo", 10, "faster_by")
        found += [
            make("scores", "dim512/items32", many, prepare=_beside_open_flamingo, bar=(faster,)),
            make("backends", "even/items32", many, prepare=_side_by_side),
            make("backends", "even/items8", few, prepare=_side_by_side),
            make("backends", "even/items1", Sizes(media=1, batch=batch), prepare=_side_by_side),
            make("backends", "one-token/items1", Sizes(media=1, tokens=1, batch=8 * batch), prepare=_side_by_side),
            make("backends", "short/items32", replace(many, tokens=2), prepare=_side_by_side),
            make("backends", "uneven/items32", many, prepare=partial(_side_by_side, uneven=True)),
            make("backends", "all/items8", few, prepare=partial(_side_by_side, scope="all"), scope="all"),
        ]
    return found


def _case(
    kind: str,
    label: str,
    sizes: Sizes,
    *,
    way: str,
    device: str,
    dtype: str,
    tiny: bool,
    prepare: Callable[..., list[Contender]],
    scope: str = "last",
    bar: tuple[Bar, ...] = (),
) -> Case:
    sizes = sizes.tiny() if tiny else sizes
    moved = (2 * sizes.batch * sizes.text * sizes.inner, 2 * sizes.items * sizes.latents * sizes.inner)
    return Case(
        suite="attention",
        name=f"attention/{kind}/{way}/{label}",
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(prepare, sizes, way, device, dtype),
        check=partial(agree, dtype=dtype, rename=dict),
        flops=score_flops(sizes, scope=scope, way=way),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=way),
        bar=bar,
    )


def _query_and_keys(sizes: Sizes, way: str, device: str, dtype: str) -> Inputs:
    """Projected text and media; keys and values stand beside one another, as open_flamingo keeps them."""
    query = (sizes.batch, sizes.text, sizes.inner)
    key_value = (sizes.batch, sizes.media, sizes.latents, 2 * sizes.inner)
    return Inputs(device, dtype, way=way, query=query, key_value=key_value)


class _Op(nn.Module):
    """`media_attention` on flat tensors, without weights."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.backend = backend

    def forward(self, sizes: Sizes, inputs: Inputs, layout: MediaLayout) -> Tensor:
        """Run the backend."""
        heads = (sizes.heads, sizes.head_dim)
        key, value = (x.unflatten(-1, heads) for x in inputs["key_value"].flatten(0, 1).chunk(2, dim=-1))
        out = media_attention(inputs["query"].unflatten(-1, heads), key, value, layout, backend=self.backend)
        return out.flatten(-2)


def _beside_open_flamingo(sizes: Sizes, way: str, device: str, dtype: str) -> list[Contender]:
    inputs = _query_and_keys(sizes, way, device, dtype)
    is_media = tags(sizes, device=device)
    layout = MediaLayout.from_tokens(is_media).prepare()
    add = partial(contender, inputs=inputs, way=way, function=OURS, shapes=[tuple(inputs["query"].shape)])
    op = _Op("auto")
    found: list[Contender] = [add(OURS, partial(op, sizes, inputs, layout), module=op, oracle=oracle_for(sizes))]
    if why := peers.missing("open_flamingo"):
        return [*found, Contender.left_out("open_flamingo", why)]
    # Their own module between projections that do nothing: what is left is their code from scores to output.
    peer = peers.load_open_flamingo().MaskedCrossAttention(
        dim=sizes.inner, dim_visual=sizes.inner, heads=sizes.heads, dim_head=sizes.head_dim
    )
    peer.norm = peer.to_q = peer.to_kv = peer.to_out = nn.Identity()
    return [*found, add("open_flamingo", partial(_unprojected, peer, inputs, is_media), module=peer)]


def _unprojected(peer: Callable[..., Tensor], inputs: Inputs, is_media: Tensor) -> Tensor:
    return peer(inputs["query"], inputs["key_value"], media_locations=is_media)


def _side_by_side(
    sizes: Sizes, way: str, device: str, dtype: str, *, scope: str = "last", uneven: bool = False
) -> list[Contender]:
    """Every backend that runs here, ours as `auto` chooses first."""
    inputs = _query_and_keys(sizes, way, device, dtype)
    layout = MediaLayout.from_tokens(tags(sizes, device=device, uneven=uneven), scope=scope).prepare()
    can = available_backends(
        device, getattr(torch, dtype), head_dim=sizes.head_dim, num_heads=sizes.heads, requires_grad="backward" in way,
        layout=layout,
    )  # fmt: skip
    add = partial(contender, inputs=inputs, way=way, function=OURS, shapes=[tuple(inputs["query"].shape)])
    auto = _Op("auto")
    call = partial(auto, sizes, inputs, layout)
    found: list[Contender] = [add(OURS, call, module=auto, oracle=oracle_for(sizes, scope=scope))]
    for name, told in can.items():
        if name == "reference":  # the oracle: made to be right, not fast
            continue
        if told != "ok":
            found.append(Contender.left_out(name, told))
            continue
        op = _Op(name)
        found.append(add(name, partial(op, sizes, inputs, layout), module=op))
    return found
