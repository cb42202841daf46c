"""A step of AdamW over many tensors, as `make_optimizer` builds it, beside torch's own forms."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases.contenders import Checked, agree
from flamingo_blocks.training import param_groups
from flamingo_blocks.training.optim.optimisers import make_optimizer

PAIRS, ROWS, COLUMNS = 62, 640, 634  # a matrix and a vector each: 124 tensors, 25 million numbers
PASSES = 7  # a step reads weight, gradient and two moments, and writes all but the gradient
Build = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """One case. What is trained is float32 whatever the rest of a model computes in, and so it is here."""
    pairs, rows, columns = (3, 5, 4) if tiny else (PAIRS, ROWS, COLUMNS)
    faster = Bar("a step at least 3x faster than torch's loop over tensors", "loop", 3.0, "faster_by")
    no_slower = Bar("a step no slower than in torch's form of its own choice", "default", 1.0, "faster_by", slack=1e-4)
    return [
        Case(
            suite="optimiser",
            name="optimiser/adamw/124-tensors/25M",
            sizes={"tensors": 2 * pairs, "parameters": pairs * rows * (columns + 1)},
            device=device,
            dtype=dtype,
            prepare=partial(_prepare, pairs, rows, columns, device),
            check=partial(agree, dtype="float32", rename=dict),
            bytes=PASSES * pairs * rows * (columns + 1) * torch.float32.itemsize,
            bar=(faster, no_slower),
        )
    ]


def _prepare(pairs: int, rows: int, columns: int, device: str) -> list[Contender]:
    ways: dict[str, Build] = {
        OURS: partial(make_optimizer, "adamw"),
        "default": torch.optim.AdamW,
        "loop": partial(torch.optim.AdamW, foreach=False),
        "foreach": partial(torch.optim.AdamW, foreach=True),
    }
    return [_step(name, build, pairs, rows, columns, device) for name, build in ways.items()]


def _step(name: str, build: Build, pairs: int, rows: int, columns: int, device: str) -> Contender:
    """One step from the start: weights and moments are set back before each call, so that all calls do the same."""
    layers = nn.ModuleList(nn.Linear(columns, rows, device=device) for _ in range(pairs))
    named: dict[str, Tensor] = dict(layers.named_parameters())
    weights = list(named.values())
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    optimiser = build(param_groups(layers, lr=1e-4))

    @torch.no_grad()
    def fresh(seed: int) -> None:
        noise = torch.Generator(device).manual_seed(seed)
        for weight in weights:
            assert weight.grad is not None
            weight.grad.normal_(generator=noise)
            weight.copy_(weight.grad)  # as good as any other numbers
        for state in optimiser.state.values():
            for value in state.values():
                value.zero_()

    def run() -> dict[str, Tensor]:
        optimiser.step()
        return {key: weight.detach() for key, weight in named.items()}

    return Checked(name=name, run=run, fresh=fresh, function=OURS, module=layers)
