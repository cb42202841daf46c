"""How much memory a rank needs at the peak of an update, by what it holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import nn

from flamingo_blocks.training.planning.batch_shape import BatchShape
from flamingo_blocks.training.planning.planned_sizes import ModelSizes

STORED, TRAINED, COMPUTED, REDUCED = 2, 16, 2, 4  # bytes: of a frozen weight; of a trained one with gradient and
# moments in float32; of an activation in bfloat16; of a gradient that is being reduced
_LOSS_CHUNK = 2**26  # logits that the loss makes at once
_OF_A_LOGIT = 12  # bytes: the logit, its float32 copy, and the gradients of both


@dataclass(frozen=True)
class Kept:
    """Numbers kept for the backward pass.

    Args:
        text: Of a text token, in layers and blocks.
        item: Of an item: resampler, and the keys and values of all blocks.
        recomputed_text: Of a text token in the largest layer or block, where each runs again by itself.
        recomputed_item: Of an item in the largest layer or block, likewise.
    """

    text: float
    item: float
    recomputed_text: float = 0.0
    recomputed_item: float = 0.0


def kept_numbers(sizes: ModelSizes, batch: BatchShape, *, patches: float, checkpoint: bool) -> Kept:
    """Count what a model keeps for the backward pass.

    Args:
        sizes: The model's.
        batch: Its batch.
        patches: Patch features of a frame.
        checkpoint: Whether layers, blocks and resampler keep their inputs alone.

    Returns:
        The numbers.
    """
    dim, parts = sizes.dim, sizes.resampler
    layers = [layer.kept + layer.kept_scores * batch.text for layer in sizes.layers[sizes.first :]]
    blocks = [block.kept for block in sizes.blocks.values()]
    of_item = patches * batch.frames
    # What enters the input projection; its output, normed once for all layers; the tokens, and their projection.
    entering = of_item * ((parts.input_width if parts.input_products else 0) + 2 * parts.dim)
    # The first layer's latents are parameters, so with the tokens at the end as many are kept as there are layers.
    entering += parts.latents * (dim if parts.projection_products else 0)
    in_layer = parts.kept_layer[0] * (of_item + parts.latents) + parts.kept_layer[1] * parts.latents
    media = [block.kept_media * parts.latents for block in sizes.blocks.values()]
    if not checkpoint:
        return Kept(sum(layers) + sum(blocks) + sizes.outer_kept, entering + parts.depth * in_layer + sum(media))
    item = entering + parts.depth * parts.dim * parts.latents
    text = dim * (len(layers) + len(blocks)) + sizes.outer_kept
    return Kept(text, item, max([*layers, *blocks]), max([in_layer, *media]))


def account_memory(
    sizes: ModelSizes,
    parameters: Mapping[str, tuple[float, float, float]],
    batches: Iterable[BatchShape],
    *,
    patches: float,
    world_size: int,
    frozen: Literal["replicate", "shard"],
    checkpoint: bool,
    sync_last: bool,
) -> dict[str, float]:
    """Bytes of a rank at the peak.

    Args:
        sizes: The model's.
        parameters: By part: how many train, how many are frozen, and the bytes of the latter.
        batches: What an update draws, all ranks together; each data set goes through by itself.
        patches: Patch features of a frame.
        world_size: Ranks.
        frozen: Whether each rank holds all frozen weights or its share.
        checkpoint: Whether activations are recomputed.
        sync_last: Whether gradients are reduced once an update.

    Returns:
        Bytes by what they hold.
    """
    trained = sum(part[0] for part in parameters.values())
    of_tower = parameters["tower"][2]  # never sharded: it is small, and runs where images are
    frozen_bytes = sum(part[2] for part in parameters.values()) - of_tower
    share = world_size if frozen == "shard" else 1
    account = {
        "frozen weights": frozen_bytes / share + of_tower,
        "trained weights, gradients, moments": TRAINED * trained / world_size,
    }
    account |= _gathered(sizes, trained, frozen_bytes, world_size=world_size, frozen=frozen, sync_last=sync_last)
    kept = [(kept_numbers(sizes, b, patches=patches, checkpoint=checkpoint), b) for b in batches]
    peaks = [
        (
            COMPUTED * (k.text + k.recomputed_text) * b.tokens / (b.parts * world_size),
            COMPUTED * (k.item + k.recomputed_item) * b.num_items / (b.parts * world_size),
        )
        for k, b in kept
    ]
    text, media = max(peaks, key=sum)
    account |= {"activations of text": text, "activations of media": media}
    account["loss"] = max(_loss(sizes, b.labels / (b.parts * world_size)) for _, b in kept)
    return account


def _gathered(
    sizes: ModelSizes, trained: float, frozen_bytes: float, *, world_size: int, frozen: str, sync_last: bool
) -> dict[str, float]:
    """What a rank holds of others for a while: the group that runs and the next one, and the root for good."""
    if world_size == 1:  # autocast keeps a copy of each trained weight until the end of the forward pass
        return {"copies in bfloat16": COMPUTED * trained, "root group": 0.0, "reduce buffer": 0.0}
    groups = [float(sizes.resampler.parameters)]
    for index, layer in enumerate(sizes.layers):
        if index in sizes.blocks:
            groups.append(float(sizes.blocks[index].parameters))
        if frozen == "shard":
            groups.append(float(layer.parameters))
    two = max(sum(pair) for pair in pairwise(groups)) if len(groups) > 1 else sum(groups)
    of_blocks = [block.parameters for block in sizes.blocks.values()]
    rest = trained - sizes.resampler.parameters - sum(of_blocks)
    root = COMPUTED * max(rest, 0)
    if frozen == "shard":
        root += frozen_bytes - STORED * sum(layer.parameters for layer in sizes.layers)
    reduced = trained if sync_last else max([*of_blocks, sizes.resampler.parameters])
    return {"gathered groups": COMPUTED * two, "root group": root, "reduce buffer": REDUCED * reduced}


def _loss(sizes: ModelSizes, labels: float) -> float:
    """Logits of a chunk at a time, and the gradient of what enters the head."""
    vocab = sizes.vocab + sizes.new_tokens
    return _OF_A_LOGIT * vocab * min(labels, max(64, _LOSS_CHUNK // vocab)) + COMPUTED * sizes.dim * labels


def stored_bytes(part: nn.Module) -> float:
    """Bytes of the frozen weights of a part, in bfloat16 or what is smaller.

    Args:
        part: A module.

    Returns:
        The bytes; trained weights are left out.
    """
    frozen = (p for p in part.parameters() if not p.requires_grad)
    return sum(float(p.numel() * min(STORED, p.element_size())) for p in frozen)
