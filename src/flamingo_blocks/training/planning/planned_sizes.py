"""The sizes of a model that decide what training it costs, read off its modules; nothing is computed."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.lm.text_config import text_config
from flamingo_blocks.lm.token_rows import find_pair
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.models.paper_language_model import PaperDecoderLayer
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler


@dataclass(frozen=True)
class LayerSizes:
    """One decoder layer of the language model.

    Args:
        parameters: All of them.
        products: Weights of the matrices that each token is multiplied by.
        trained_products: Those of them that train (LoRA).
        last_products: Weights of its last matrix, which is not run again: nothing behind it is kept.
        once: Weights that are multiplied once a call, not for each row: relative positions.
        inner: Width of all heads together.
        score_products: Products of that width for each pair of tokens: 2, and 3 with relative positions.
        kept: Numbers kept of a token for the backward pass.
        kept_scores: Numbers kept of a pair of tokens; 0 for fused attention.
    """

    parameters: int
    products: int
    trained_products: int
    last_products: int
    once: int
    inner: int
    score_products: int
    kept: float
    kept_scores: float


@dataclass(frozen=True)
class BlockSizes:
    """One gated block: as `LayerSizes`, of a text token and of a media token."""

    parameters: int
    text_products: int
    media_products: int
    inner: int
    kept: float
    kept_media: float


@dataclass(frozen=True)
class ResamplerSizes:
    """The resampler and the projection behind it."""

    parameters: int
    input_products: int
    token_products: int  # of all layers, for patches and latents: keys and values
    latent_products: int  # of all layers, for latents alone
    last_products: int  # of them, those of the last matrix of a layer
    projection_products: int
    inner: int
    depth: int
    latents: int
    input_width: int
    dim: int
    kept_layer: tuple[float, float]  # of one layer: a patch, a latent


@dataclass(frozen=True)
class ModelSizes:
    """A whole model.

    Args:
        dim: Width of the language model.
        vocab: Entries of its head.
        new_tokens: Trained rows beside the head.
        layers: Its decoder layers.
        blocks: The gated blocks by layer.
        resampler: The resampler and the projection behind it.
        outer_products: Weights of its matrices outside the layers, but for the head.
        outer_kept: Numbers kept of a token outside the layers.
        first: The layer from which on the text has a gradient.
    """

    dim: int
    vocab: int
    new_tokens: int
    layers: tuple[LayerSizes, ...]
    blocks: dict[int, BlockSizes]
    resampler: ResamplerSizes
    outer_products: int
    outer_kept: float
    first: int


def read_sizes(flamingo: Flamingo) -> ModelSizes:
    """Read the sizes of a model.

    Args:
        flamingo: The model; on the meta device it needs no memory.

    Returns:
        Its sizes.

    Raises:
        TypeError: If a block or the resampler is of a kind whose cost is not known.

    Example:
        >>> from flamingo_blocks.models import build_paper_flamingo
        >>> sizes = read_sizes(build_paper_flamingo("3b"))
        >>> sizes.dim, len(sizes.layers), sizes.first
        (2048, 24, 0)
    """
    lm = flamingo.lm
    table, head = find_pair(lm, flamingo.embedding, flamingo.head)
    dim = int(table.weight.shape[-1])
    found = find_decoder_layers(lm, flamingo.layers)
    layers = tuple(_layer(layer, lm, dim) for layer in found.layers)
    rows = flamingo.token_rows
    num_predicted = 0 if rows is None else rows.num_predicted
    of_norms = _norms(lm, dim, dim) - sum(_norms(layer, dim, dim) for layer in found.layers)
    inside = sum(layer.products + layer.once for layer in layers)
    whole = _products(lm, besides=head)[0]
    trained_layers = [index for index, layer in enumerate(layers) if layer.trained_products]
    starts = [int(index) for index in flamingo.blocks] + trained_layers
    if (rows is not None and rows.input.requires_grad) or table.weight.requires_grad:
        starts.append(0)
    return ModelSizes(
        dim=dim,
        vocab=int(head.weight.shape[0]),
        new_tokens=num_predicted,
        layers=layers,
        blocks={int(index): _block(block) for index, block in flamingo.blocks.items()},
        resampler=_resampler(flamingo),
        outer_products=whole - inside,
        outer_kept=of_norms + (dim if num_predicted else 0),  # what enters a head with trained rows
        first=min(starts),
    )


def _layer(layer: nn.Module, lm: nn.Module, dim: int) -> LayerSizes:
    products, trained = _products(layer)
    inner = _attention_width(lm, dim)
    of_norms = _norms(layer, dim, dim)
    of_head_norms = _norms(layer, inner // _num_heads(lm), inner)
    relative = isinstance(layer, PaperDecoderLayer)
    once = dim * dim if relative else 0  # the projection of the distances
    hidden, matrices = _hidden(layer, dim)
    # Query, key, value, and what fused attention gave; one tensor of the hidden width, and two more where it is gated.
    kept = (
        of_norms
        + of_head_norms
        + (3 if relative else 4) * inner
        + hidden * _kept_by_activation(layer, gated=matrices > 2)
    )
    kept += (2 * dim + inner + hidden) if trained else 0  # what enters matrices that train
    eager = relative or getattr(text_config(lm), "_attn_implementation", None) == "eager"
    return LayerSizes(
        parameters=sum(p.numel() for p in layer.parameters()),
        products=products - once,
        trained_products=trained,
        last_products=0 if of_norms > 4 * dim else hidden * dim,  # of more than two norms one stands behind it
        once=once,
        inner=inner,
        score_products=3 if relative else 2,
        kept=kept,
        kept_scores=2 * _num_heads(lm) if eager else 0,
    )


def _products(module: nn.Module, *, besides: nn.Module | None = None) -> tuple[int, int]:
    """Weights of all matrices, and those of them that train; look-ups are no products."""
    total = trained = 0
    part: Any
    for part in module.modules():
        if isinstance(part, nn.Embedding) or part is besides:
            continue
        size = sum(p.numel() for p in part.parameters(recurse=False) if _is_matrix(p.shape))
        if size and hasattr(part, "in_features") and hasattr(part, "out_features"):
            size = part.in_features * part.out_features  # quantised weights are packed
        total += size
        trained += size if any(p.requires_grad for p in part.parameters(recurse=False)) else 0
    return total, trained


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and min(shape[-2:]) > 1


def _hidden(layer: nn.Module, dim: int) -> tuple[int, int]:
    """Width of the feed-forward layer, which one matrix makes and another one takes, and how many have it."""
    shapes = [tuple(p.shape) for p in layer.parameters() if p.ndim == 2]
    widths = {shape[0] for shape in shapes if shape[1] == dim and (dim, shape[0]) in shapes} - {dim}
    hidden = max(widths, default=dim)
    return hidden, sum(sorted(shape) == sorted((hidden, dim)) for shape in shapes) if hidden != dim else 2


def _norms(module: nn.Module, width: int, of_token: int) -> int:
    """Numbers of a token that norms of a width keep; those written out compute in float32, twice the size."""
    kept = 0
    for part in module.modules():
        weight = next(part.parameters(recurse=False), None)
        if "norm" in type(part).__name__.lower() and weight is not None and weight.shape == (width,):
            kept += of_token if isinstance(part, nn.LayerNorm | nn.RMSNorm) else 2 * of_token
    return kept


def _kept_by_activation(layer: nn.Module, *, gated: bool) -> int:
    """How many tensors of the hidden width an activation keeps; GPT-2's is written out."""
    written_out = any(type(part).__name__ == "NewGELUActivation" for part in layer.modules())
    return (2 if gated else 0) + (4 if written_out else 1)


def _num_heads(lm: nn.Module) -> int:
    config = text_config(lm)
    if isinstance(config, dict):
        return int(config.get("num_heads", 1))
    return int(getattr(config, "num_attention_heads", 1))


def _attention_width(lm: nn.Module, dim: int) -> int:
    head_dim = getattr(text_config(lm), "head_dim", None)
    return _num_heads(lm) * int(head_dim) if head_dim else dim


def _block(block: Any) -> BlockSizes:
    if not isinstance(block, GatedCrossAttentionBlock):
        raise TypeError(f"a block is a {type(block).__name__}, wanted a GatedCrossAttentionBlock, whose cost is known")
    attention, dense = block.attention, block.feed_forward
    dim, inner, hidden = attention.dim, attention.q_proj.out_features, dense.up_proj.out_features
    of_media, ways = attention.k_proj.out_features, 2 if dense.gate_proj is None else 3
    of_norm = 0 if attention.media_norm is None else attention.vision_dim
    more = 0 if attention.q_norm is None else 1  # a norm over each head keeps what it gets
    return BlockSizes(
        parameters=sum(p.numel() for p in block.parameters()),
        text_products=2 * dim * inner + ways * dim * hidden,
        media_products=2 * attention.vision_dim * of_media,
        inner=inner,
        # Both norms keep what they get and give, both gates what they scale; query, update, and that in rows.
        kept=6 * dim + (3 + more) * inner + (ways - 1) * hidden,
        kept_media=of_norm + (2 + more) * of_media,
    )


def _resampler(flamingo: Flamingo) -> ResamplerSizes:
    resampler, projection = flamingo.resampler, flamingo.projection
    if not isinstance(resampler, PerceiverResampler):
        raise TypeError(f"resampler is a {type(resampler).__name__}, wanted a PerceiverResampler, whose cost is known")
    parts = [part for part in (resampler, projection) if part is not None]
    layer: Any = resampler.layers[0]
    dim, inner, depth = resampler.dim, layer.q_proj.out_features, len(resampler.layers)
    hidden, ways = layer.feed_forward.up_proj.out_features, 2 if layer.feed_forward.gate_proj is None else 3
    of_token, of_latent = 2 * dim * inner, 2 * dim * inner + ways * dim * hidden
    return ResamplerSizes(
        parameters=sum(p.numel() for part in parts for p in part.parameters()),
        input_products=0 if resampler.input_proj is None else resampler.vision_dim * dim,
        token_products=depth * of_token,
        latent_products=depth * of_latent,
        last_products=depth * dim * hidden,
        projection_products=0 if projection is None else _products(projection)[0],
        inner=inner,
        depth=depth,
        latents=resampler.num_latents,
        input_width=resampler.vision_dim,
        dim=dim,
        kept_layer=(2.0 * inner, 4.0 * dim + 2 * inner + (ways - 1) * hidden),
    )
