"""What a run will need of memory and time, before a device is bought."""

from collections.abc import Mapping
from typing import Literal

from torch import nn

from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.training.planning.batch_shape import BatchShape
from flamingo_blocks.training.planning.devices import DEVICES, DeviceFacts
from flamingo_blocks.training.planning.planned_flops import count_flops
from flamingo_blocks.training.planning.planned_memory import (
    COMPUTED,
    STORED,
    account_memory,
    kept_numbers,
    stored_bytes,
)
from flamingo_blocks.training.planning.planned_sizes import ModelSizes, read_sizes
from flamingo_blocks.training.planning.run_plan import RunPlan
from flamingo_blocks.training.planning.tower_facts import TowerFacts, count_tower


def plan_run(
    model: nn.Module,
    *,
    batches: Mapping[str, BatchShape],
    steps: int,
    world_size: int = 1,
    frozen: Literal["replicate", "shard"] = "replicate",
    checkpoint: bool = True,
    sync_last: bool = False,
    device: DeviceFacts | str = "h200",
    tower: TowerFacts | None = None,
) -> RunPlan:
    """Plan a run from the sizes of its model and batches; nothing is computed.

    The account is that of the paper's precision: frozen weights in bfloat16, trained ones with their gradients and two
    moments in float32, activations in bfloat16; trained weights sharded over the ranks. Activations are exact for our
    blocks and our resampler, and close for decoder layers of the usual kinds with fused attention; a fifth more memory
    than the plan says is a fair margin for what the allocator wastes and a tower needs while it runs. Operations are
    those of matrix products.

    Args:
        model: A `Flamingo`; build a large one on the meta device, as `build_paper_flamingo` does.
        batches: The batch of each data set in an update, all ranks together.
        steps: Updates.
        world_size: Ranks, one device each.
        frozen: Whether each rank holds all frozen weights or its share of them.
        checkpoint: Whether activations are recomputed, as by `Flamingo.checkpoint_activations`.
        sync_last: Whether gradients are reduced once an update, after the last data set: faster between machines, and
            each rank holds all gradients until then.
        device: A device of your own, or the name of one in `DEVICES`.
        tower: What the vision tower costs; by default counted on the model's own.

    Returns:
        The plan.

    Raises:
        TypeError: If the model is no `Flamingo`, or has parts whose cost is not known.
        ValueError: If no data set counts, the rows of one cannot be shared out evenly, `steps` or `world_size` is less
            than 1, `frozen` or the device is unknown, or the model has no tower and none is given.

    Example:
        >>> from flamingo_blocks.models import build_paper_flamingo
        >>> from flamingo_blocks.training.planning.tower_facts import NFNET_F6
        >>> plan = plan_run(
        ...     build_paper_flamingo("9b"),
        ...     batches={"pages": BatchShape(rows=256, text=256, items=5)},
        ...     steps=500_000,
        ...     world_size=8,
        ...     tower=NFNET_F6,
        ... )
        >>> plan.fits, round(plan.memory_bytes / 1e9), round(plan.days, 1)
        (True, 26, 6.7)

    Source:
        The precision: Flamingo (arXiv 2204.14198), section B.1.2. A matrix of P weights costs 2P operations a token
        forward, and 2P backward for each of its two gradients: Kaplan et al. (arXiv 2001.08361), section 2.1.
    """
    chosen = DEVICES.get(device) if isinstance(device, str) else device
    counted = {name: batch for name, batch in batches.items() if batch.weight > 0}
    _check(counted, steps, world_size, frozen)
    if chosen is None:
        raise ValueError(f"device is {device!r}, wanted a DeviceFacts or one of {', '.join(map(repr, DEVICES))}")
    if not isinstance(model, Flamingo):
        raise TypeError(f"model is a {type(model).__name__}, wanted a Flamingo")
    sizes, facts = read_sizes(model), _tower(model, tower)
    parameters = _parameters(model, facts)
    shapes = list(counted.values())
    return RunPlan(
        trained={name: int(part[0]) for name, part in parameters.items()},
        frozen={name: int(part[1]) for name, part in parameters.items()},
        memory=account_memory(
            sizes, parameters, shapes, patches=facts.patches, world_size=world_size, frozen=frozen,
            checkpoint=checkpoint, sync_last=sync_last,
        ),
        activations_per_token=_per_token(sizes, max(shapes, key=lambda shape: shape.text), facts.patches),
        flops=count_flops(sizes, facts, shapes, scope=model.scope, checkpoint=checkpoint),
        tokens=sum(shape.tokens for shape in shapes),
        items=sum(shape.num_items for shape in shapes),
        steps=steps,
        world_size=world_size,
        device=chosen,
    )  # fmt: skip


def _check(batches: Mapping[str, BatchShape], steps: int, world_size: int, frozen: str) -> None:
    if steps < 1 or world_size < 1:
        raise ValueError(f"steps is {steps} and world_size is {world_size}, wanted 1 or more of each")
    if frozen not in ("replicate", "shard"):
        raise ValueError(f'frozen is {frozen!r}, wanted "replicate" or "shard"')
    if not batches:
        raise ValueError("batches has no data set of a weight above 0: nothing would be trained on")
    for name, batch in batches.items():
        if batch.rows % world_size:
            raise ValueError(
                f"batch {name!r} has {batch.rows} rows, which {world_size} ranks cannot share evenly; wanted a "
                f"multiple of {world_size}"
            )


def _tower(model: Flamingo, given: TowerFacts | None) -> TowerFacts:
    if given is not None:
        return given
    if model.vision is None:
        raise ValueError(
            "the model has no vision tower, so what one costs is not known; give tower=NFNET_F6, or TowerFacts of your "
            "own, with parameters=0 and flops_per_frame=0 where features were computed before"
        )
    return count_tower(model.vision)


def _parameters(model: Flamingo, tower: TowerFacts) -> dict[str, tuple[float, float, float]]:
    """By part: how many train, how many are frozen, and bytes of the latter."""
    parts: dict[str, list[nn.Module]] = {
        "blocks": [model.blocks],
        "resampler": [part for part in (model.resampler, model.projection) if part is not None],
        "new_tokens": [] if model.token_rows is None else [model.token_rows],
        "lm": [model.lm],
    }
    found = {
        name: (
            float(sum(p.numel() for part in modules for p in part.parameters() if p.requires_grad)),
            float(sum(p.numel() for part in modules for p in part.parameters() if not p.requires_grad)),
            sum(map(stored_bytes, modules)),
        )
        for name, modules in parts.items()
    }
    trained, frozen = (tower.parameters, 0) if tower.trained else (0, tower.parameters)
    return found | {"tower": (float(trained), float(frozen), float(STORED * frozen))}


def _per_token(sizes: ModelSizes, batch: BatchShape, patches: float) -> dict[str, float]:
    return {
        name: COMPUTED * kept_numbers(sizes, batch, patches=patches, checkpoint=checkpoint).text
        for name, checkpoint in (("none", False), ("checkpointed", True))
    }
