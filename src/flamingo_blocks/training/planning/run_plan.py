"""A plan of a run, and the table that shows it."""

from collections.abc import Mapping
from dataclasses import dataclass

from flamingo_blocks.training.planning.devices import DeviceFacts
from flamingo_blocks.training.planning.planned_flops import PartFlops


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will need; `str(plan)` is a table.

    Args:
        trained: Trained parameters by part: `blocks`, `resampler` (with the projection), `new_tokens`, `lm`, `tower`.
        frozen: Frozen parameters by part.
        memory: Bytes of a rank at the peak, by what they hold.
        activations_per_token: Bytes kept of a text token, `none` recomputed and `checkpointed`.
        flops: Operations of an update by part, of all ranks together.
        tokens: Text tokens of an update.
        items: Images and clips of an update.
        steps: Updates.
        world_size: Ranks.
        device: The device of each rank.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> from flamingo_blocks.training.planning import BatchShape, plan_run
        >>> plan = plan_run(build_tiny_flamingo(), batches={"pages": BatchShape(rows=8, text=16, items=2)}, steps=100)
        >>> plan.tokens, plan.items, plan.fits, sorted(plan.trained)
        (128, 16, True, ['blocks', 'lm', 'new_tokens', 'resampler', 'tower'])
    """

    trained: Mapping[str, int]
    frozen: Mapping[str, int]
    memory: Mapping[str, float]
    activations_per_token: Mapping[str, float]
    flops: Mapping[str, PartFlops]
    tokens: int
    items: float
    steps: int
    world_size: int
    device: DeviceFacts

    @property
    def memory_bytes(self) -> float:
        """Of a rank at the peak."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the device has that much."""
        return self.memory_bytes <= self.device.memory_bytes

    @property
    def flops_of_update(self) -> PartFlops:
        """Operations of all parts."""
        return sum(self.flops.values(), PartFlops())

    @property
    def seconds_per_update(self) -> float:
        """At the device's utilisation, if more ranks are as much faster."""
        speed = self.device.flops_per_s * self.device.utilisation * self.world_size
        return self.flops_of_update.total / speed

    @property
    def days(self) -> float:
        """Of the whole run."""
        return self.seconds_per_update * self.steps / 86400

    def __str__(self) -> str:
        return "\n\n".join((_parameters(self), _memory(self), _work(self)))


def _parameters(plan: RunPlan) -> str:
    rows = [
        (name, _millions(plan.trained[name]), _millions(plan.frozen[name]))
        for name in plan.trained
        if plan.trained[name] or plan.frozen[name]
    ]
    total = ("total", _millions(sum(plan.trained.values())), _millions(sum(plan.frozen.values())))
    return _table(("parameters", "trained", "frozen"), [*rows, total])


def _memory(plan: RunPlan) -> str:
    rows = [(name, _gigabytes(size)) for name, size in plan.memory.items()]
    verdict = "fits" if plan.fits else "does not fit"
    device = f"{plan.device.name}, {_gigabytes(plan.device.memory_bytes)}: {verdict}"
    return _table(("memory of a rank", device), [*rows, ("total", _gigabytes(plan.memory_bytes))])


def _work(plan: RunPlan) -> str:
    parts = {**plan.flops, "total": plan.flops_of_update}
    rows = [
        (name, *(f"{value / 1e15:.4g}" for value in (part.forward, part.backward, part.recompute)))
        for name, part in parts.items()
    ]
    table = _table(("PFLOP an update", "forward", "backward", "recomputed"), rows)
    share = f"{plan.device.utilisation:.0%} of {plan.device.flops_per_s / 1e12:g} TFLOP/s"
    return (
        f"{table}\n\n{plan.tokens:,} tokens and {plan.items:,.0f} items an update on {plan.world_size} x "
        f"{plan.device.name} at {share}:\n{plan.seconds_per_update:.3g} s an update, {plan.days:.3g} days for "
        f"{plan.steps:,} updates"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell, the first one to the left."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    )


def _millions(number: float) -> str:
    return f"{number / 1e6:,.1f} M"


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.2f} GB"
