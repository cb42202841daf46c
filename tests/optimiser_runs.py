"""A small regression that any optimiser can train, in one process or sharded over two."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from flamingo_blocks.training.optim.groups import param_groups
from flamingo_blocks.training.optim.optimiser_table import OPTIMISERS
from flamingo_blocks.training.optim.optimisers import _build, make_optimizer

BATCH, STEPS = 8, 4


def make_model(seed: int = 0) -> nn.Sequential:
    """Two layers; the first has an odd number of rows, so that shards of two processes are uneven."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3))


def make_groups(model: nn.Module, name: str) -> list[dict[str, Any]]:
    """Matrices that decay, where the optimiser has a decay, and biases at three times the rate."""
    decay = 0.0 if name.startswith("a2grad") else 0.1
    return param_groups(model, lr=0.03, weight_decay=decay, lr_factors={"rest.other": 3.0})


def loss_of(model: nn.Module, rows: slice = slice(None)) -> Tensor:
    """Of rows of one fixed batch."""
    noise = torch.Generator().manual_seed(1)
    inputs = torch.randn(BATCH, 4, generator=noise)
    targets = (inputs @ torch.randn(4, 3, generator=noise)).sin()
    return (model(inputs[rows]) - targets[rows]).square().mean()


def train(
    model: nn.Module, optimiser: torch.optim.Optimizer, steps: range, *, graph: bool, rows: slice = slice(None)
) -> None:
    """Steps at learning rates that a schedule writes, as the loop does; what is random is drawn from the step."""
    for step in steps:
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] / (1 + 0.1 * step)
        optimiser.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
            loss_of(model, rows).backward(create_graph=graph)
        optimiser.step()


def train_sharded(names: Sequence[str], folder: Path) -> dict[str, tuple[float, float] | str]:
    """By optimiser: how far two processes are from one, and how far a run that was resumed is from one that was not.

    Of an optimiser that cannot, what it raised when it was built, and whether it raised when it stepped all the same.
    """
    warnings.simplefilter("error")
    found: dict[str, tuple[float, float] | str] = {}
    for name in names:
        if OPTIMISERS[name].not_sharded:
            found[name] = _refusals(name)
        else:
            found[name] = _distances(name, folder / name)
        distributed.barrier()
    return found


def _sharded() -> nn.Module:
    model, mesh = make_model(), init_device_mesh("cpu", (2,))
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh)
    return model


def _rows() -> slice:
    half = BATCH // 2
    return slice(half * distributed.get_rank(), half * (distributed.get_rank() + 1))


def _distances(name: str, folder: Path) -> tuple[float, float]:
    alone, model = make_model(), _sharded()
    train(alone, make_optimizer(name, make_groups(alone, name)), range(STEPS), graph=False)
    optimiser = make_optimizer(name, make_groups(model, name), sharded=True)
    train(model, optimiser, range(STEPS // 2), graph=False, rows=_rows())
    dcp.save({"optimiser": get_optimizer_state_dict(model, optimiser)}, checkpoint_id=folder)
    half = [parameter.detach().clone() for parameter in model.parameters()]
    train(model, optimiser, range(STEPS // 2, STEPS), graph=False, rows=_rows())

    resumed = _sharded()
    again = make_optimizer(name, make_groups(resumed, name), sharded=True)
    state = get_optimizer_state_dict(resumed, again)
    dcp.load({"optimiser": state}, checkpoint_id=folder)
    set_optimizer_state_dict(resumed, again, state)
    with torch.no_grad():
        for parameter, saved in zip(resumed.parameters(), half, strict=True):
            parameter.copy_(saved)
    train(resumed, again, range(STEPS // 2, STEPS), graph=False, rows=_rows())
    return _distance(alone, model), _distance(model, resumed)


def _distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(_whole(one), _whole(other), strict=True)
    return max((left - right).abs().max().item() for left, right in pairs)


def _whole(model: nn.Module) -> list[Tensor]:
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()]


def _refusals(name: str) -> str:
    """Asked first without saying that the parameters are sharded, then past the table."""
    model = _sharded()
    try:
        make_optimizer(name, make_groups(model, name))
    except ValueError as error:
        said = str(error)
    else:
        return "it was built"
    optimiser = _build(OPTIMISERS[name], make_groups(model, name), {})
    try:
        train(model, optimiser, range(1), graph=OPTIMISERS[name].needs_graph, rows=_rows())
    except Exception:  # noqa: BLE001 - each fails in a way of its own
        return said
    return "it stepped"
