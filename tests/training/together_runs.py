"""What several processes train, or cannot train, together; `test_runs_together.py` says what has to come out."""

import torch
from torch import distributed, nn

from flamingo_blocks.training import BatchParts, Objective, TrainConfig, flamingo_loss, shard, train, warmup_hold_decay
from tests.training.loop_runs import batch_of
from tests.training.sharded_checks import make_model, make_rows, whole
from tests.training.sharded_messages import Messages

WEIGHTS = {"uneven": 1.0, "one rank": 0.2, "none": 0.03}


def rows_of(world, rank):
    """Rows of each data set for a rank: 3 and 1 with labels, 1 and none, and none at all."""
    rows = make_rows()
    all_of = {"uneven": (rows[:3], rows[3:4]), "one rank": (rows[4:5], rows[6:7]), "none": (rows[7:], rows[7:])}
    if world == 1:
        return {name: [*first, *second] for name, (first, second) in all_of.items()}
    return {name: ranks[rank] for name, ranks in all_of.items()}


def config_of(model, objectives, **changed):
    """Weights move by their gradient."""
    usual = {"steps": 1, "lr": 1.0, "optimizer": "sgd", "weight_decay": 0.0, "max_grad_norm": float("inf")}
    return TrainConfig(model=model, objectives=objectives, schedule=warmup_hold_decay(warmup=1), **(usual | changed))


def sharded():
    return shard(make_model(), mixed_precision=False)


def change_of_weights():
    """By one step over the three data sets, and the losses that it told."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    model, before = make_model(), make_model().trained_parameters()
    model = shard(model, mixed_precision=False) if world > 1 else model
    objectives = [
        Objective(name=name, batches=[batch_of(model, rows)], loss=flamingo_loss, weight=WEIGHTS[name])
        for name, rows in rows_of(world, rank).items()
    ]
    (report,) = train(config_of(model, objectives)).reports
    after = {name: whole(weight).detach() for name, weight in model.trained_parameters().items()}
    return {name: value - before[name].detach() for name, value in after.items()}, dict(report.losses)


def messages_of_a_step():
    """How many reductions two steps of three parts in two data sets take."""
    model, rank = sharded(), distributed.get_rank()
    parts = BatchParts(batch_of(model, make_rows()[part : part + 1 + rank]) for part in range(3))
    objectives = [Objective(name=name, batches=[parts] * 3, loss=flamingo_loss) for name in "ab"]
    with Messages() as messages:
        train(config_of(model, objectives, steps=2, lr=1e-3))
    return messages.counts["reduce_scatter_base"]


def said_of(objectives, model=None, **changed):
    """What ends a run, and what the weights are then."""
    model = sharded() if model is None else model
    before = {name: whole(weight).detach().clone() for name, weight in model.named_parameters()}
    try:
        train(config_of(model, objectives(model), **changed))
    except (ValueError, RuntimeError, OSError) as error:
        still = all(torch.equal(whole(weight), before[name]) for name, weight in model.named_parameters())
        return type(error).__name__, str(error), still
    return "nothing", "", False


def slips():
    """Ranks that do not have the same, and a model that is not sharded."""
    rank = distributed.get_rank()

    def usual(model, names=("a",), steps=1):
        batch = batch_of(model, make_rows()[:2])
        return [Objective(name=name, batches=[batch] * steps, loss=flamingo_loss) for name in names]

    def broken(model):
        def batches():
            yield batch_of(model, make_rows()[:2])
            raise OSError("the disk is gone")

        return [Objective(name="a", batches=batches() if rank == 0 else usual(model, steps=2)[0].batches,
                          loss=flamingo_loss)]  # fmt: skip

    return {
        "other names": said_of(lambda model: usual(model, "ab" if rank else "ba")),
        "other numbers": said_of(lambda model: usual(model, "ab"[: rank + 1])),
        "not sharded": said_of(usual, make_model()),
        "no model of ours": said_of(
            lambda model: [Objective(name="a", batches=[torch.ones(1, 2)], loss=lambda m, x: m(x).sum())],
            nn.Linear(2, 1),
        ),
        "dry at once": said_of(lambda model: usual(model, steps=1 - rank)),
        "dry later": said_of(lambda model: usual(model, steps=3 - 2 * rank), steps=3),
        "broken": said_of(broken, steps=2),
    }


def run():
    """All of it, in each process of a group alike."""
    found = {"change": change_of_weights()}
    if distributed.get_world_size() > 1:
        found |= {"messages": messages_of_a_step(), "slips": slips()}
    return found
