"""The Perceiver Resampler beside the peers' with the same weights; the tower below it is frozen, as in training."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.contenders import WAYS, Inputs, agree, contender
from benchmarks.cases.work import least_bytes, resampler_flops
from flamingo_blocks import PerceiverResampler

AS_PEERS: dict[str, dict[str, Any]] = {OURS: {"activation": "gelu"}, "as_idefics": {"activation": "relu"}}


@dataclass(frozen=True)
class Geometry:
    """Sizes of a resampler."""

    items: int = 2
    patches: int = 256
    latents: int = 64
    dim: int = 1024
    heads: int = 8
    head_dim: int = 64
    depth: int = 6

    def words(self) -> dict[str, int]:
        """Axis words to sizes."""
        names = ("items", "patches", "latents", "dim", "heads", "head_dim", "depth")
        return {name: getattr(self, name) for name in names}


SMALLEST = Geometry(items=2, patches=5, latents=3, dim=16, heads=2, head_dim=8, depth=2)


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """The geometry of OpenFlamingo, and a small one."""
    large = Geometry(items=64 if device == "cuda" else 2)
    small = Geometry(items=8, patches=64, dim=256, depth=2, heads=4)
    return [
        _case(label, SMALLEST if tiny else geometry, way, device, dtype, bar=label.startswith("256"))
        for way in WAYS
        for label, geometry in (("256-patches/6-layers/dim1024", large), ("64-patches/2-layers/dim256", small))
    ]


def _case(label: str, geometry: Geometry, way: str, device: str, dtype: str, *, bar: bool) -> Case:
    g = geometry
    inner = g.heads * g.head_dim
    weights = g.depth * (4 * g.dim * inner + 8 * g.dim**2)
    moved = (g.items * (g.patches + g.latents) * g.dim, weights)
    bars = [Bar(f"{way} not slower than open_flamingo's", "open_flamingo", 1.0, "at_most")]
    if device == "cuda":
        bars = [Bar(f"{way} at least 1.5x open_flamingo's", "open_flamingo", 1.5, "faster_by")]
    if way == "forward+backward":
        what = "bytes saved for backward at most 0.65x open_flamingo's"
        bars.append(Bar(what, "open_flamingo", 0.65, "at_most", metric="saved_bytes"))
    return Case(
        suite="resampler",
        name=f"resampler/{way}/{label}",
        sizes=g.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare, g, way, device, dtype),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=resampler_flops(
            items=g.items, patches=g.patches, latents=g.latents, dim=g.dim, inner=inner, hidden_dim=4 * g.dim,
            depth=g.depth, way=way,
        ),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=way),
        bar=tuple(bars) if bar else (),
    )  # fmt: skip


def _prepare(g: Geometry, way: str, device: str, dtype: str) -> list[Contender]:
    inputs = Inputs(device, dtype, way=way, frozen=("vision",), vision=(g.items, 1, g.patches, g.dim))
    add = partial(contender, inputs=inputs, way=way, shapes=[(g.items, g.latents, g.dim)])
    found: list[Contender] = []
    made: dict[str, nn.Module] = {}
    for name, options in AS_PEERS.items():
        if name != OURS and peers.missing(name.removeprefix("as_")):
            continue
        made[name] = _ours(g, **options).to(device, getattr(torch, dtype))
        found.append(add(name, partial(_call, made[name], inputs), module=made[name], function=name))
    for peer, build in (
        ("open_flamingo", _open_flamingo),
        ("flamingo_pytorch", _flamingo_pytorch),
        ("idefics", _idefics),
    ):
        if why := peers.missing(peer):
            found.append(Contender.left_out(peer, why))
            continue
        function = f"as_{peer}" if f"as_{peer}" in made else OURS
        module = peers.with_our_weights(build(g), made[function])
        found.append(add(peer, partial(_call_peer, peer, module, inputs), module=module, function=function))
    return found


def _ours(g: Geometry, **options: Any) -> nn.Module:
    resampler = PerceiverResampler(
        vision_dim=g.dim, dim=g.dim, num_latents=g.latents, depth=g.depth, num_heads=g.heads, head_dim=g.head_dim,
        max_frames=0, final_norm=True, **options,
    )  # fmt: skip
    return peers.draw_weights(resampler)


def _call(resampler: nn.Module, inputs: Inputs) -> Tensor:
    out: Tensor = resampler(inputs["vision"])
    return out


def _call_peer(peer: str, module: nn.Module, inputs: Inputs) -> Tensor:
    """Each with its own axes around items and patches; every item is a row of one."""
    vision = inputs["vision"]
    if peer == "open_flamingo":
        vision = vision[:, None]
    out: Tensor = module(vision[:, 0] if peer == "idefics" else vision)
    return out if peer == "idefics" else out[:, 0]


def _open_flamingo(g: Geometry) -> nn.Module:
    build: Any = peers.load_open_flamingo().PerceiverResampler
    resampler: nn.Module = build(dim=g.dim, depth=g.depth, dim_head=g.head_dim, heads=g.heads, num_latents=g.latents)
    return resampler


def _flamingo_pytorch(g: Geometry) -> nn.Module:
    build: Any = peers.load_flamingo_pytorch().PerceiverResampler
    resampler: nn.Module = build(
        dim=g.dim, depth=g.depth, dim_head=g.head_dim, heads=g.heads, num_latents=g.latents, num_media_embeds=1
    )
    return resampler


def _idefics(g: Geometry) -> nn.Module:
    return peers.idefics_resampler(
        dim=g.dim, depth=g.depth, num_heads=g.heads, head_dim=g.head_dim, num_latents=g.latents
    )
