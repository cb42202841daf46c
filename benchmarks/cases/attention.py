"""Attention from text to media: with its projections, from scores to output alone, and all backends side by side."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.contenders import WAYS, Inputs, agree, contender
from benchmarks.cases.sizes import Sizes
from benchmarks.cases.work import least_bytes, projection_flops, score_flops
from flamingo_blocks import GatedCrossAttention, MediaLayout, available_backends, media_attention

MEDIA = (1, 2, 5, 8, 16, 32, 64)
TINY = Sizes(media=4, tokens=8, latents=8, dim=64, vision_dim=64, heads=2, head_dim=32)
FLAMINGO_9B = Sizes(media=8, dim=4096, vision_dim=1024, heads=16, head_dim=64)
# What the peers compute, in our options.
AS_OPEN_FLAMINGO = {"media_norm": False}
AS_IDEFICS = {"media_norm": False, "norm": "rms_norm", "norm_eps": 1e-6}
AS_MLLAMA = {**AS_IDEFICS, "qk_norm": "rms_norm"}


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """All cases of the suite."""
    batch = 16 if device == "cuda" else 1
    found = []
    for way in WAYS:
        for media in MEDIA:
            sizes = Sizes(media=media, batch=batch)
            found.append(_projected(f"dim512/items{media}", sizes, way, device, dtype, tiny=tiny))
        found += [
            _projected("tiny", TINY, way, device, dtype, tiny=tiny),
            _projected("dim4096/items8", FLAMINGO_9B, way, device, dtype, tiny=tiny),
            _projected("all/dim512/items8", Sizes(media=8, batch=batch), way, device, dtype, tiny=tiny, scope="all"),
            _growth(Sizes(media=64, batch=batch), Sizes(media=8, batch=batch), way, device, dtype, tiny=tiny),
            _scores("dim512/items32", Sizes(media=32, batch=batch), way, device, dtype, tiny=tiny),
        ]
        for label, scope in (("even", "last"), ("uneven", "last"), ("all", "all")):
            sizes = Sizes(media=32 if scope == "last" else 8, batch=batch)
            found.append(_backends(f"{label}/items{sizes.media}", sizes, way, device, dtype, tiny=tiny, scope=scope))
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
        starts = torch.cat([torch.zeros(1).long(), half + torch.arange(sizes.media - 1) * (half // (sizes.media - 1))])
    row = torch.zeros(sizes.text, dtype=torch.bool).index_fill_(0, starts, value=True)
    return row.expand(sizes.batch, -1).to(device)


def oracle_for(sizes: Sizes, *, scope: str = "last") -> str:
    """The oracle gathers keys and values for every token, so large sizes are held against `sdpa` instead."""
    seen = 1 if scope == "last" else sizes.media
    gathered = 4 * sizes.batch * sizes.text * seen * sizes.latents * sizes.inner
    return "reference" if gathered < 2**26 else "sdpa"


def peer_bars(sizes: Sizes, way: str, device: str) -> tuple[Bar, ...]:
    """Ours is never slower than open_flamingo's, and near the projections at the size that the bars are said for."""
    never = Bar(
        f"{way} never slower than open_flamingo's by more than 10 %", "open_flamingo", 1.1, "at_most", slack=100e-6
    )
    if (sizes.media, sizes.dim) != (32, 512):
        return (never,)
    if device == "cuda":
        return (never, Bar(f"{way} at least 5x open_flamingo's", "open_flamingo", 5, "faster_by"))
    ratio = 6.5 if way == "forward" else 4.5
    return (
        never,
        Bar(f"{way} at least {ratio}x open_flamingo's", "open_flamingo", ratio, "faster_by"),
        Bar(f"{way} at most 1.3x the projections alone", "projections", 1.3, "at_most"),
    )


def _projected(label: str, sizes: Sizes, way: str, device: str, dtype: str, *, tiny: bool, scope: str = "last") -> Case:
    """`GatedCrossAttention` beside the peers' attention with the same weights, and the projections alone."""
    bars = peer_bars(sizes, way, device) if scope == "last" else ()
    sizes = sizes.tiny() if tiny else sizes
    weights = (2 * sizes.dim + 2 * sizes.vision_dim) * sizes.inner
    moved = (2 * sizes.batch * sizes.text * sizes.dim, sizes.items * sizes.latents * sizes.vision_dim, weights)
    return Case(
        suite="attention",
        name=f"attention/{way}/{label}",
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare_projected, sizes, way, device, dtype, scope),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=projection_flops(sizes, way=way) + score_flops(sizes, scope=scope, way=way),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=way),
        bar=bars,
    )


def _prepare_projected(sizes: Sizes, way: str, device: str, dtype: str, scope: str) -> list[Contender]:
    inputs = text_and_media(sizes, way, device, dtype)
    is_media = tags(sizes, device=device)
    layout = MediaLayout.from_tokens(is_media, scope=scope).prepare()
    found = []
    made: dict[str, nn.ModuleDict] = {}
    for name, options in ((OURS, AS_OPEN_FLAMINGO), ("as_idefics", AS_IDEFICS), ("as_mllama", AS_MLLAMA)):
        if name != OURS and (peers.missing(name.removeprefix("as_")) or sizes.inner != sizes.dim):
            continue
        if name == "as_mllama" and sizes.vision_dim != sizes.dim:
            continue
        made[name] = module = our_attention(sizes, device, dtype, **options)
        call = partial(_ours, module["attention"], inputs, layout)
        add = partial(contender, inputs=inputs, module=module, way=way)
        found.append(add(name, call, function=name, oracle=oracle_for(sizes, scope=scope)))
    found += [
        *_flamingo_attentions(made[OURS], sizes, inputs, is_media, way, scope),
        *_transformers_attentions(made, sizes, inputs, layout, way),
    ]
    if scope == "last":
        alone = partial(_projections, made[OURS]["attention"], inputs)
        found.append(contender("projections", alone, inputs=inputs, module=made[OURS], way=way))
    return found


def text_and_media(sizes: Sizes, way: str, device: str, dtype: str) -> Inputs:
    """Hidden states, and media as the peers take them: `[batch media latents vision_dim]`."""
    return Inputs(
        device,
        dtype,
        way=way,
        text=(sizes.batch, sizes.text, sizes.dim),
        media=(sizes.batch, sizes.media, sizes.latents, sizes.vision_dim),
    )


def our_attention(sizes: Sizes, device: str, dtype: str, **options: Any) -> nn.ModuleDict:
    """Our attention with drawn weights, under the name that it has in a block."""
    attention = GatedCrossAttention(
        sizes.dim, vision_dim=sizes.vision_dim, num_heads=sizes.heads, head_dim=sizes.head_dim, **options
    )
    return peers.draw_weights(nn.ModuleDict({"attention": attention})).to(device, getattr(torch, dtype))


def _ours(attention: nn.Module, inputs: Inputs, layout: MediaLayout) -> Tensor:
    return attention(inputs["text"], inputs["media"].flatten(0, 1), layout)


def _projections(attention: Any, inputs: Inputs) -> tuple[Tensor, ...]:
    """The same norm and matrix products with nothing between them: the time that no attention can go below."""
    media = inputs["media"].flatten(0, 1)
    out = attention.o_proj(attention.q_proj(attention.norm(inputs["text"])))
    return out, attention.k_proj(media), attention.v_proj(media)


def _flamingo_attentions(
    ours: nn.Module, sizes: Sizes, inputs: Inputs, is_media: Tensor, way: str, scope: str
) -> list[Contender]:
    found: list[Contender] = []
    for name, load in peers.BLOCK_FILES.items():
        if why := peers.missing(name):
            found.append(Contender.left_out(name, why))
            continue
        widths = {"dim": sizes.dim} | ({"dim_visual": sizes.vision_dim} if name == "open_flamingo" else {})
        if "dim_visual" not in widths and sizes.vision_dim != sizes.dim:
            continue  # it has one width for text and media
        peer: Any = load().MaskedCrossAttention(
            **widths, heads=sizes.heads, dim_head=sizes.head_dim, only_attend_immediate_media=scope == "last"
        )
        module = peers.with_our_weights(nn.ModuleDict({"attn": peer}), ours)
        call = partial(_masked, peer, inputs, is_media)
        found.append(contender(name, call, inputs=inputs, module=module, way=way, function=OURS))
    return found


def _masked(peer: Callable[..., Tensor], inputs: Inputs, is_media: Tensor) -> Tensor:
    return peer(inputs["text"], inputs["media"], media_locations=is_media)


def _transformers_attentions(
    made: dict[str, nn.ModuleDict], sizes: Sizes, inputs: Inputs, layout: MediaLayout, way: str
) -> list[Contender]:
    """IDEFICS' and Mllama's attention, where their options allow the geometry; the mask is made once, as they do."""
    found: list[Contender] = []
    mask = None
    for name, build in (("idefics", _idefics_parts), ("mllama", _mllama_parts)):
        if why := peers.missing(name):
            found.append(Contender.left_out(name, why))
        elif f"as_{name}" in made:
            if mask is None:
                mask = peers.additive_mask(layout.mask(), sizes.latents, inputs["text"].dtype)
            parts, media_name = build(sizes)
            module = peers.with_our_weights(nn.ModuleDict(parts), made[f"as_{name}"])
            call = partial(_normed, module, inputs, mask, media_name)
            found.append(contender(name, call, inputs=inputs, module=module, way=way, function=f"as_{name}"))
    return found


def _normed(module: Any, inputs: Inputs, mask: Tensor, media_name: str) -> Tensor:
    text = module["input_layernorm"](inputs["text"])
    media = inputs["media"].flatten(1, 2)
    return module["cross_attn"](hidden_states=text, attention_mask=mask, **{media_name: media})[0]


def _idefics_parts(sizes: Sizes) -> tuple[dict[str, nn.Module], str]:
    from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

    config = peers.idefics_config(
        dim=sizes.dim, vision_dim=sizes.vision_dim, num_heads=sizes.heads, hidden_dim=sizes.dim
    )
    layer = IdeficsGatedCrossAttentionLayer(config, layer_idx=0)
    return {"input_layernorm": layer.input_layernorm, "cross_attn": layer.cross_attn}, "key_value_states"


def _mllama_parts(sizes: Sizes) -> tuple[dict[str, nn.Module], str]:
    from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer

    config = peers.mllama_config(dim=sizes.dim, num_heads=sizes.heads, hidden_dim=sizes.dim)
    layer = MllamaCrossAttentionDecoderLayer(config, layer_idx=0)
    return {"input_layernorm": layer.input_layernorm, "cross_attn": layer.cross_attn}, "cross_attention_states"


def _growth(large: Sizes, small: Sizes, way: str, device: str, dtype: str, *, tiny: bool) -> Case:
    """The same at two numbers of items: the work is linear in the text."""
    ratio = 1.25 * large.media / small.media
    bar = Bar(
        f"{way} of {large.media} items at most {ratio:g}x that of {small.media}",
        f"items{small.media}",
        ratio,
        "at_most",
    )
    small_name = f"items{small.media}"
    name = f"attention/{way}/growth/dim512/items{large.media}"
    large, small = (large.tiny(), small.tiny()) if tiny else (large, small)
    return Case(
        suite="attention",
        name=name,
        sizes=large.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare_growth, large, small, small_name, way, device, dtype),
        check=partial(agree, dtype=dtype, rename=peers.under_our_names),
        flops=projection_flops(large, way=way) + score_flops(large, way=way),
        bar=(bar,),
    )


def _prepare_growth(large: Sizes, small: Sizes, small_name: str, way: str, device: str, dtype: str) -> list[Contender]:
    module = our_attention(large, device, dtype, **AS_OPEN_FLAMINGO)
    found: list[Contender] = []
    for name, sizes in ((OURS, large), (small_name, small)):
        inputs = text_and_media(sizes, way, device, dtype)
        call = partial(
            _ours, module["attention"], inputs, MediaLayout.from_tokens(tags(sizes, device=device)).prepare()
        )
        add = partial(contender, inputs=inputs, module=module, way=way)
        found.append(add(name, call, function=name, oracle=oracle_for(sizes)))
    return found


def _scores(label: str, sizes: Sizes, way: str, device: str, dtype: str, *, tiny: bool) -> Case:
    """`media_attention` alone, from scores to output, beside open_flamingo's code for the same."""
    bar = (Bar(f"scores to output, {way}, at least 10x open_flamingo's", "open_flamingo", 10, "faster_by"),)
    sizes = sizes.tiny() if tiny else sizes
    moved = (2 * sizes.batch * sizes.text * sizes.inner, 2 * sizes.items * sizes.latents * sizes.inner)
    return Case(
        suite="attention",
        name=f"attention/scores/{way}/{label}",
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare_scores, sizes, way, device, dtype),
        check=partial(agree, dtype=dtype, rename=dict),
        flops=score_flops(sizes, way=way),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=way),
        bar=bar if device == "cuda" else (),
    )


def _prepare_scores(sizes: Sizes, way: str, device: str, dtype: str) -> list[Contender]:
    inputs = query_and_keys(sizes, way, device, dtype)
    is_media = tags(sizes, device=device)
    layout = MediaLayout.from_tokens(is_media).prepare()
    add = partial(contender, inputs=inputs, way=way, function=OURS)
    module = _Op("auto")
    found: list[Contender] = [
        add(OURS, partial(module, sizes, inputs, layout), module=module, oracle=oracle_for(sizes))
    ]
    if why := peers.missing("open_flamingo"):
        return [*found, Contender.left_out("open_flamingo", why)]
    # Their own module between projections that do nothing: what is left is their code from scores to output.
    peer = peers.load_open_flamingo().MaskedCrossAttention(
        dim=sizes.inner, dim_visual=sizes.inner, heads=sizes.heads, dim_head=sizes.head_dim
    )
    peer.norm = peer.to_q = peer.to_kv = peer.to_out = nn.Identity()
    return [*found, add("open_flamingo", partial(_identity_projected, peer, inputs, is_media), module=peer)]


def query_and_keys(sizes: Sizes, way: str, device: str, dtype: str) -> Inputs:
    """Projected text and media; keys and values stand beside one another, as open_flamingo keeps them."""
    return Inputs(
        device,
        dtype,
        way=way,
        query=(sizes.batch, sizes.text, sizes.inner),
        key_value=(sizes.batch, sizes.media, sizes.latents, 2 * sizes.inner),
    )


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


def _identity_projected(peer: Callable[..., Tensor], inputs: Inputs, is_media: Tensor) -> Tensor:
    return peer(inputs["query"], inputs["key_value"], media_locations=is_media)


def _backends(label: str, sizes: Sizes, way: str, device: str, dtype: str, *, tiny: bool, scope: str) -> Case:
    """Every backend that runs here, ours as `auto` chooses first."""
    uneven = label.startswith("uneven")
    sizes = sizes.tiny() if tiny else sizes
    return Case(
        suite="attention",
        name=f"attention/backends/{way}/{label}",
        sizes=sizes.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare_backends, sizes, way, device, dtype, scope, uneven=uneven),
        check=partial(agree, dtype=dtype, rename=dict),
        flops=None if uneven else score_flops(sizes, scope=scope, way=way),
    )


def _prepare_backends(sizes: Sizes, way: str, device: str, dtype: str, scope: str, *, uneven: bool) -> list[Contender]:
    inputs = query_and_keys(sizes, way, device, dtype)
    layout = MediaLayout.from_tokens(tags(sizes, device=device, uneven=uneven), scope=scope).prepare()
    can = available_backends(
        device, getattr(torch, dtype), head_dim=sizes.head_dim, num_heads=sizes.heads, requires_grad="backward" in way,
        layout=layout,
    )  # fmt: skip
    found: list[Contender] = []
    for name in ("auto", *(name for name in can if name != "reference")):
        if can.get(name, "ok") != "ok":
            found.append(Contender.left_out(name, can[name]))
            continue
        module = _Op(name)
        call = partial(module, sizes, inputs, layout)
        oracle = oracle_for(sizes, scope=scope) if name == "auto" else None
        shown = OURS if name == "auto" else name
        found.append(contender(shown, call, inputs=inputs, module=module, way=way, function=OURS, oracle=oracle))
    return found
