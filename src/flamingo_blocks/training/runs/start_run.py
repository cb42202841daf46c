"""Start a run, or go on with it: build, place, shard, train, save; alone, or as one of the ranks of torchrun."""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

from flamingo_blocks.models.compile_regions import compile_regions
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.training.checkpoints import Checkpointer
from flamingo_blocks.training.loop import TrainConfig, TrainResult, train
from flamingo_blocks.training.planning import DeviceFacts, RunPlan, plan_run
from flamingo_blocks.training.ranks import prepare_precision, shard
from flamingo_blocks.training.ranks.process_group import process_group, started_together
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process
from flamingo_blocks.training.runs.run_config import RunConfig
from flamingo_blocks.training.watching import BadBatches, GateValues, RunLog
from flamingo_blocks.training.watching.measures import Measure

_WHILE_PREPARED = timedelta(hours=2)  # that other processes wait for the first one


def start_run(config: RunConfig, *, progress: bool | None = None) -> TrainResult:
    """Do a run, or what is left of it.

    The folder gets `checkpoints/`, `metrics.jsonl` with a line a step, `bad_batches/` where there were such, and in the
    end the trained `model/`. Started by `torchrun`, each process is one rank of the run: trained weights are sharded.
    Killed anywhere, the same call goes on from the newest whole checkpoint.

    Args:
        config: What a recipe returned.
        progress: Whether rank 0 shows a bar; by default where standard error is a terminal.

    Returns:
        What the steps of this call did.

    Raises:
        ValueError: As `train`, or if the model is no `Flamingo` where an option asks for one.
        FloatingPointError: As `train`.
        CheckpointError: As `train`.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from flamingo_blocks.training import Feed, Objective
        >>> def squares(model, rows):
        ...     return model(rows).square().mean()
        >>> config = RunConfig(
        ...     build=lambda: nn.Linear(2, 1),
        ...     feed=lambda model: Feed(objectives=[Objective(name="x", batches=[torch.ones(4, 2)], loss=squares)]),
        ...     batches={}, steps=1, lr=0.1, folder=Path("run"),
        ... )
        >>> len(start_run(config, progress=False).reports), sorted(path.name for path in Path("run").iterdir())
        (1, ['metrics.jsonl'])
    """
    try:  # better now than after the first step
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"folder is {config.folder}, which cannot be made: {error}") from error
    if config.prepare is not None:
        _check_alone()
        if rank_of_process() == 0:
            config.prepare()
    with _process_group(config):
        model = _placed(config)
        feed = config.feed(model)
        measures: list[Measure] = [GateValues(model, every=config.gates_every), *feed.measures]
        keeper = None if feed.data is None else Checkpointer(config.folder / "checkpoints", keep_last=config.keep_last)
        with RunLog(
            config.folder, measures=measures, steps=config.steps, tensorboard=config.tensorboard, progress=progress
        ) as log:
            result = train(
                TrainConfig(
                    model=model, objectives=feed.objectives, data=feed.data, steps=config.steps, lr=config.lr,
                    seed=config.seed, autocast=_autocast(config), checkpointer=keeper, save_every=config.save_every,
                    on_step=log, on_bad_batches=BadBatches(config.folder), **_gathering(config), **config.options,
                )
            )  # fmt: skip
        if config.export and result.stopped_by is None and isinstance(model, Flamingo):
            exporter = Checkpointer(config.folder / "checkpoints") if keeper is None else keeper
            exporter.export(model, config.folder / "model")
    return result


def plan_config(config: RunConfig, *, world_size: int = 1, device: DeviceFacts | str = "h200") -> RunPlan:
    """What a run will need of memory and time; nothing is computed or read.

    Args:
        config: What a recipe returned.
        world_size: Ranks, one device each.
        device: As in `plan_run`.

    Returns:
        The plan.

    Raises:
        TypeError: As `plan_run`.
        ValueError: As `plan_run`.

    Example:
        >>> from pathlib import Path
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> from flamingo_blocks.training import BatchShape, Feed
        >>> config = RunConfig(
        ...     build=build_tiny_flamingo, feed=lambda model: Feed(objectives=[]), steps=10, lr=1e-3,
        ...     folder=Path("run"), batches={"pairs": BatchShape(rows=8, text=16)},
        ... )
        >>> plan_config(config).tokens
        128
    """
    try:
        with torch.device("meta"):
            model = (config.outline or config.build)()
    except Exception as error:
        if config.outline is not None:
            raise
        raise ValueError(
            f"build cannot make the model without weights ({type(error).__name__}: {error}); give the config an "
            "outline that builds it from sizes alone"
        ) from error
    return plan_run(
        model, batches=config.batches, steps=config.steps, world_size=world_size, frozen=config.frozen,
        checkpoint=config.recompute, sync_last=True, device=device, tower=config.tower,
    )  # fmt: skip


def _placed(config: RunConfig) -> nn.Module:
    """The model as it trains: on its device, in its precision, over all ranks."""
    torch.manual_seed(config.seed)
    model: Any = config.build()
    model.to(_device(config.device))
    if config.precision == "bfloat16":
        prepare_precision(model)
    if config.recompute or config.compile:
        if not isinstance(model, Flamingo):
            raise ValueError(f"recompute and compile are for a Flamingo, and build made a {type(model).__name__}")
        if config.recompute:
            model.checkpoint_activations()
        if config.compile:
            compile_regions(model)
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        if isinstance(model, Flamingo):
            model.look_at_language_model()  # what it can, before it is sharded
        half = config.precision == "bfloat16"
        shard(model.train(), frozen=config.frozen, hybrid=config.hybrid, mixed_precision=half)
    result: nn.Module = model
    return result


def _gathering(config: RunConfig) -> dict[str, Any]:
    """Frozen weights that are sharded, for they do not fit, are not kept gathered over the batches of a step."""
    return {} if "keep_gathered" in config.options else {"keep_gathered": config.frozen == "replicate"}


def _check_alone() -> None:
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise ValueError(
            "prepare is for the first process before the others join it, and there is a process group already; let "
            "start_run make the group, or call prepare yourself before and leave it out"
        )


def _autocast(config: RunConfig) -> torch.dtype | None:
    """Over several ranks FSDP casts what trains, at its own edges."""
    alone = not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)
    return torch.bfloat16 if alone and config.precision == "bfloat16" else None


def _device(asked: str | None) -> torch.device:
    if asked not in (None, "cuda"):
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _process_group(config: RunConfig) -> AbstractContextManager[None]:
    """The processes that torchrun has started, if it has."""
    if not started_together() or not distributed.is_available() or distributed.is_initialized():
        return nullcontext()
    device = config.device
    if device is not None and ":" in device:
        raise ValueError(f"device is {device!r}, and there are several processes: leave it out, each has its own")
    cuda = torch.cuda.is_available() if device is None else device == "cuda"
    if cuda:
        torch.cuda.set_device(_device(None))
    return process_group("nccl" if cuda else "gloo", timeout=_WHILE_PREPARED if config.prepare else None)
