"""A run from its parts to its folder: what a recipe returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from torch import nn

from flamingo_blocks.training.loop import Position, TrainConfig
from flamingo_blocks.training.objective import Objective
from flamingo_blocks.training.planning import BatchShape
from flamingo_blocks.training.planning.tower_facts import TowerFacts
from flamingo_blocks.training.watching.measures import Measure

_MADE = ("model", "objectives", "data", "checkpointer", "on_step", "on_bad_batches", "autocast")  # by `start_run`


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a model is trained on, and what is asked of it meanwhile.

    Args:
        objectives: The data sets, as in `TrainConfig`.
        data: What the batches come from, whose position is saved; without it nothing is, and a run cannot go on.
        measures: Asked after each step, such as a `FewShotScore`; every rank calls them.

    Example:
        >>> Feed(objectives=[Objective(name="none", batches=[], loss=lambda model, batch: model(batch).sum())]).measures
        ()
    """

    objectives: Sequence[Objective]
    data: Position | None = None
    measures: Sequence[Measure] = ()


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything from which `start_run` makes a trained model, and `plan_config` says what that will need.

    Args:
        build: Makes the model, on the CPU and the same on all ranks; called once in each process.
        prepare: Makes what `build` and `feed` read, such as parts that are trained before, if it is not there yet;
            called by the first process, before the others join it, so it may train by itself.
        feed: Makes the data of that model, which is then on its device, and sharded where there are several ranks.
        batches: How large a step's batch of each data set is, all ranks together, for the plan.
        steps: Updates.
        lr: Learning rate at schedule factor 1.
        folder: Where checkpoints, logs and the trained model go. A run that is started again goes on with what is
            there.
        options: Further arguments of `TrainConfig`: `schedule`, `weight_decay`, `updates`, ...
        outline: Makes the model without its weights, for the plan; called under `torch.device("meta")`. By default
            `build` is.
        tower: What the vision tower costs, for the plan, where it cannot be counted on the model.
        seed: Of torch's generators when the model is built, and in each step.
        precision: `"bfloat16"` stores what is frozen in it and computes in it, what trains is float32, as in the paper;
            `"float32"` leaves all dtypes as they are.
        frozen: Over several ranks, whether frozen weights are whole on each or sharded, as in `shard`.
        hybrid: As there.
        recompute: Whether activations are made anew in the backward pass, as by `Flamingo.checkpoint_activations`.
        compile: Whether blocks, resampler and language model's layers are compiled, as by `compile_regions`.
        device: Of one process; by default the first GPU, or with several ranks that of each, or the CPU.
        save_every: Steps from one checkpoint to the next.
        keep_last: How many of the newest checkpoints stay.
        gates_every: Steps from one reading of the gates to the next.
        tensorboard: Whether TensorBoard's files are written beside `metrics.jsonl`.
        export: Whether a `Flamingo` is saved as `folder/model` at the end, by `save_pretrained`.

    Raises:
        ValueError: If a word is none of its choices, a number of steps or checkpoints is less than 1, or `options` has
            what is a field here, or no argument of `TrainConfig`.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> config = RunConfig(
        ...     build=build_tiny_flamingo, feed=lambda model: Feed(objectives=[]), batches={}, steps=1, lr=1e-3,
        ...     folder=Path("run"),
        ... )
        >>> config.precision
        'float32'
    """

    build: Callable[[], nn.Module]
    feed: Callable[[Any], Feed]
    batches: Mapping[str, BatchShape]
    steps: int
    lr: float
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    outline: Callable[[], nn.Module] | None = None
    prepare: Callable[[], None] | None = None
    tower: TowerFacts | None = None
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    frozen: Literal["replicate", "shard"] = "replicate"
    hybrid: bool = False
    recompute: bool = False
    compile: bool = False
    device: str | None = None
    save_every: int = 1000
    keep_last: int = 3
    gates_every: int = 100
    tensorboard: bool = False
    export: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("precision", ("float32", "bfloat16")), ("frozen", ("replicate", "shard"))):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}, wanted one of {', '.join(map(repr, choices))}")
        known = {each.name for each in fields(TrainConfig)}
        for name in self.options:
            if name not in known:
                close = get_close_matches(name, known)
                meant = (
                    f"did you mean {' or '.join(close)}" if close else f"TrainConfig takes {', '.join(sorted(known))}"
                )
                raise ValueError(f"options has {name!r}, which is no argument of TrainConfig; {meant}")
        if said := sorted(set(self.options) & {*vars(self), *_MADE}):
            raise ValueError(f"options has {', '.join(said)}, which the run itself says or makes; leave it out there")
        for name in ("steps", "save_every", "keep_last", "gates_every"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}, wanted 1 or more")
