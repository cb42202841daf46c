"""The loop: weighted gradients added up, one update a step."""

import itertools
import time

import pytest
import torch
from torch import nn

from flamingo_blocks.training import Objective, TrainConfig, train, warmup_hold_decay


def linear(*weights):
    """A layer of one output with given weights and no bias."""
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    return layer


def mean_output(model, batch):
    return model(batch).mean()


def config(model, objectives, **changed):
    usual = {"steps": 1, "lr": 0.1, "schedule": warmup_hold_decay(warmup=1), "weight_decay": 0.0}
    return TrainConfig(model=model, objectives=objectives, **(usual | changed))


def test_gradients_of_the_data_sets_are_added_with_their_weights():
    """The gradient norm before clipping is that of the weighted sum, and the reported losses are not weighted."""
    rows = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])}
    objectives = [
        Objective(name="a", batches=[rows["a"]], loss=mean_output, weight=3.0),
        Objective(name="b", batches=[rows["b"]], loss=mean_output, weight=4.0),
    ]
    (report,) = train(config(linear(1.0, 2.0), objectives)).reports
    assert report.grad_norm == pytest.approx(5.0)
    assert report.losses == {"a": 1.0, "b": 2.0}


def test_roles_have_rates_of_their_own():
    """By name, and one that is not there is told."""
    model, rows = linear(1.0, 2.0), torch.ones(1, 2)
    objectives = [Objective(name="a", batches=[rows] * 2, loss=mean_output)]
    before = model.weight.detach().clone()
    train(config(model, objectives, lr_factors={"rest.matrices": 0.01}))
    assert float((model.weight.detach() - before).abs().max()) == pytest.approx(
        0.001, rel=1e-3
    )  # Adam's first step is the rate
    with pytest.raises(ValueError, match="lr_factors names the roles rest.matrix"):
        train(config(model, objectives, lr_factors={"rest.matrix": 2.0}))


def test_a_data_set_of_weight_zero_is_not_drawn_from():
    """A batch that would fail is never asked for when its data set counts nothing."""
    broken = (1 / 0 for _ in range(1))
    objectives = [
        Objective(name="used", batches=[torch.ones(1, 1)], loss=mean_output),
        Objective(name="unused", batches=broken, loss=mean_output, weight=0.0),
    ]
    assert train(config(linear(1.0), objectives)).reports[0].losses.keys() == {"used"}


def test_the_schedule_scales_every_step():
    """With a factor of zero in every step but one, only that step moves the weights."""
    weights = []
    model = linear(1.0)
    objective = Objective(name="x", batches=itertools.repeat(torch.ones(1, 1)), loss=mean_output)
    train(
        config(
            model,
            [objective],
            steps=3,
            schedule=lambda step: float(step == 1),
            on_step=lambda report: weights.append(model.weight.item()),
        )
    )
    assert weights[0] == 1.0
    assert weights[1] == weights[2] == pytest.approx(0.9)


def test_a_step_whose_gradient_is_not_finite_changes_nothing_and_is_counted():
    """One bad batch leaves the weights as they are; the next one is trained on."""
    batches = [torch.ones(1, 1), torch.full((1, 1), float("nan")), torch.ones(1, 1)]
    weights = []
    model = linear(1.0)
    result = train(
        config(
            model,
            [Objective(name="x", batches=batches, loss=mean_output)],
            steps=3,
            on_step=lambda report: weights.append(model.weight.item()),
        )
    )
    assert result.skipped == 1
    assert weights[1] == weights[0]
    assert weights[2] < weights[1]


def test_many_bad_steps_in_a_row_end_the_run():
    """The error says how many steps and which losses."""
    bad = itertools.repeat(torch.full((1, 1), float("inf")))
    objective = Objective(name="x", batches=bad, loss=mean_output)
    with pytest.raises(FloatingPointError, match=r"4 steps in a row, up to step 3.*lr, which is 0\.1"):
        train(config(linear(1.0), [objective], steps=9, max_skipped=4))


@pytest.mark.parametrize("max_skipped", [0, -1])
def test_a_run_that_may_not_even_start_is_refused(max_skipped):
    """No step would be finite enough; the error says what the smallest number means."""
    objective = Objective(name="x", batches=[torch.ones(1, 1)], loss=mean_output)
    with pytest.raises(ValueError, match=f"max_skipped is {max_skipped}, wanted 1 or more; with 1"):
        train(config(linear(1.0), [objective], max_skipped=max_skipped))


def test_frozen_parameters_do_not_move():
    """A parameter that needs no gradient is bit for bit the same after training."""
    model = nn.Sequential(linear(1.0).requires_grad_(False), linear(2.0))
    train(config(model, [Objective(name="x", batches=[torch.ones(1, 1)], loss=mean_output)]))
    assert model[0].weight.item() == 1.0
    assert model[1].weight.item() != 2.0


def test_a_data_set_that_runs_dry_is_named():
    """Too few batches are an error that names the data set and the step, and no half gradient is applied."""
    model = linear(1.0)
    endless = Objective(name="endless", batches=itertools.repeat(torch.ones(1, 1)), loss=mean_output)
    short = Objective(name="short", batches=[torch.ones(1, 1)], loss=mean_output)
    with pytest.raises(ValueError, match="'short' ran dry at step 1"):
        train(config(model, [endless, short], steps=2))


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0), (float("nan"), 1.0)])
def test_weights_must_not_be_negative_nor_all_zero(weights):
    """Such weights are refused with their names."""
    objectives = [Objective(name=str(i), batches=[], loss=mean_output, weight=w) for i, w in enumerate(weights)]
    with pytest.raises(ValueError, match="objectives have the weights {'0': "):
        train(config(linear(1.0), objectives))


def test_two_data_sets_of_one_name_are_refused():
    """Reports go by name, so names differ."""
    objectives = [Objective(name="x", batches=[], loss=mean_output)] * 2
    with pytest.raises(ValueError, match=r"names \['x', 'x'\]"):
        train(config(linear(1.0), objectives))


def test_a_report_tells_rate_and_time_of_its_step():
    """The rate without the factors of roles; the time that its batches took to come is in it."""

    def slow():
        for _ in range(2):
            time.sleep(0.02)
            yield torch.ones(1, 2)

    objectives = [Objective(name="a", batches=slow(), loss=mean_output)]
    schedule = warmup_hold_decay(warmup=2)
    roles = {"rest.matrices": 5.0}
    first, second = train(config(linear(1.0, 2.0), objectives, steps=2, schedule=schedule, lr_factors=roles)).reports
    assert (first.lr, second.lr) == (0.05, 0.1)
    assert first.seconds >= 0.02
