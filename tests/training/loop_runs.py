"""What several processes train together; `test_runs.py` says what has to come out."""

import torch
from torch import distributed

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.training import Objective, TrainConfig, flamingo_loss, train, warmup_hold_decay
from flamingo_blocks.training.ranks.shard import shard
from tests.processes import run_together
from tests.training.sharded_checks import ROWS, make_model, make_rows, whole

STEPS = 3


def batch_of(model, rows):
    """The rows as one batch."""
    ids, labels, pixels = zip(*rows, strict=True)
    ids, pixels = torch.stack(ids), torch.cat(pixels)
    return FlamingoBatch(
        input_ids=ids, attention_mask=torch.ones_like(ids).bool(), layout=model.make_layout(ids),
        labels=torch.stack(labels), pixels=pixels if len(pixels) else None,
    )  # fmt: skip


def batches_of(model, rows):
    """A batch of the rows each step."""
    for _ in range(STEPS):
        yield batch_of(model, rows)


def train_together():
    """The rows of a step spread over the ranks, two data sets of them; the weights at the end."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    rows = make_rows()
    mine = {"pages": rows[rank * (ROWS // world) : (rank + 1) * (ROWS // world)], "text": rows[6 + rank :: world][:1]}
    if world == 1:
        mine["text"] = rows[6:8]
    model = make_model()
    model = shard(model, mixed_precision=False) if world > 1 else model
    objectives = [
        Objective(name=name, batches=batches_of(model, of_set), loss=flamingo_loss, weight=weight)
        for (name, of_set), weight in zip(mine.items(), (1.0, 0.2), strict=True)
    ]
    schedule = warmup_hold_decay(warmup=1)
    result = train(TrainConfig(model=model, objectives=objectives, steps=STEPS, lr=1e-3, schedule=schedule))
    weights = {name: whole(parameter).detach().clone() for name, parameter in model.trained_parameters().items()}
    return weights | {f"loss of {name}": torch.tensor(loss) for name, loss in result.reports[-1].losses.items()}


def weights_after(world_size, folder):
    """Of each process."""
    return run_together(train_together, world_size, folder=folder)
