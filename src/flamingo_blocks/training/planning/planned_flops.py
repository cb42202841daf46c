"""How many floating-point operations an update takes, part by part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flamingo_blocks.training.planning.batch_shape import BatchShape
from flamingo_blocks.training.planning.planned_sizes import LayerSizes, ModelSizes
from flamingo_blocks.training.planning.tower_facts import TowerFacts
from flamingo_blocks.types import Scope


@dataclass(frozen=True)
class PartFlops:
    """Operations of a part of the model in one update; a product and a sum are two.

    Args:
        forward: In the forward pass.
        backward: In the backward pass.
        recompute: What activation checkpointing runs a second time.
    """

    forward: float = 0.0
    backward: float = 0.0
    recompute: float = 0.0

    def __add__(self, other: "PartFlops") -> "PartFlops":
        return PartFlops(self.forward + other.forward, self.backward + other.backward, self.recompute + other.recompute)

    @property
    def useful(self) -> float:
        """Without what is run a second time."""
        return self.forward + self.backward

    @property
    def total(self) -> float:
        """All that is computed."""
        return self.useful + self.recompute


def count_flops(
    sizes: ModelSizes, tower: TowerFacts, batches: Iterable[BatchShape], *, scope: Scope, checkpoint: bool
) -> Mapping[str, PartFlops]:
    """Count the operations of matrix products; all others are few beside them.

    Args:
        sizes: The model's.
        tower: The vision tower.
        batches: What an update draws.
        scope: Which items a token sees.
        checkpoint: Whether layers, blocks and resampler run again in the backward pass.

    Returns:
        The operations by part: `lm`, `blocks`, `resampler`, `tower`.
    """
    parts = {name: PartFlops() for name in ("lm", "blocks", "resampler", "tower")}
    for batch in batches:
        parts["lm"] += _language_model(sizes, batch, checkpoint=checkpoint)
        parts["blocks"] += _blocks(sizes, batch, scope=scope, checkpoint=checkpoint)
        parts["resampler"] += _resampler(sizes, batch, patches=tower.patches, checkpoint=checkpoint)
        parts["tower"] += _tower(tower, batch)
    return parts


def _language_model(sizes: ModelSizes, batch: BatchShape, *, checkpoint: bool) -> PartFlops:
    """Frozen layers give a gradient to their input alone; those below the first block give none."""
    total = PartFlops()
    for index, layer in enumerate(sizes.layers):
        total += _layer(layer, batch, carries=index >= sizes.first, checkpoint=checkpoint)
    outer = 2.0 * sizes.outer_products * batch.tokens
    head, new = (2.0 * sizes.dim * rows * batch.labels for rows in (sizes.vocab, sizes.new_tokens))
    # The gradients of the frozen head's input, and those of the trained rows and their input.
    return total + PartFlops(outer + head + new, outer + head + 2 * new)


def _layer(layer: LayerSizes, batch: BatchShape, *, carries: bool, checkpoint: bool) -> PartFlops:
    products, pairs = 2.0 * batch.tokens * layer.products, 2.0 * batch.rows * batch.text**2 * layer.inner
    forward = products + layer.score_products * pairs + 2.0 * batch.text * layer.once
    if not carries:
        return PartFlops(forward)
    # Relative positions are given, so of the third product one factor alone has a gradient.
    scores = {2: 4, 3: 5}[layer.score_products] * pairs
    weights = 2.0 * batch.tokens * layer.trained_products
    again = forward - 2.0 * batch.tokens * layer.last_products
    return PartFlops(forward, products + scores + weights, again if checkpoint else 0.0)


def _blocks(sizes: ModelSizes, batch: BatchShape, *, scope: Scope, checkpoint: bool) -> PartFlops:
    seen = (batch.items + 1) / 2 if scope == "all" else min(batch.items, 1)
    latents = sizes.resampler.latents
    forward = 0.0
    for block in sizes.blocks.values():
        forward += 2.0 * block.text_products * batch.tokens
        forward += 2.0 * block.media_products * batch.num_items * latents
        forward += 4.0 * block.inner * batch.tokens * seen * latents
    return PartFlops(forward, 2 * forward, forward if checkpoint else 0.0)


def _resampler(sizes: ModelSizes, batch: BatchShape, *, patches: float, checkpoint: bool) -> PartFlops:
    parts, of_item = sizes.resampler, patches * batch.frames
    first = 2.0 * parts.input_products * of_item  # features need no gradient
    layers = 2.0 * parts.token_products * (of_item + parts.latents) + 2.0 * parts.latent_products * parts.latents
    layers += 4.0 * parts.inner * parts.depth * parts.latents * (of_item + parts.latents)
    again = layers - 2.0 * parts.last_products * parts.latents
    behind = 2.0 * parts.projection_products * parts.latents
    one = PartFlops(first + layers + behind, first + 2 * (layers + behind), again if checkpoint else 0.0)
    return PartFlops(*(batch.num_items * value for value in (one.forward, one.backward, one.recompute)))


def _tower(tower: TowerFacts, batch: BatchShape) -> PartFlops:
    forward = tower.flops_per_frame * batch.num_frames
    return PartFlops(forward, 2 * forward if tower.trained else 0.0)
