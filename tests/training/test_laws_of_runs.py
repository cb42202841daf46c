"""Laws of whole runs of `train`: what a batch may be cut into, what moves and what does not, what a bad step leaves."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import (
    BatchParts,
    Checkpointer,
    Objective,
    TrainConfig,
    cosine,
    exponential,
    flamingo_loss,
    train,
    warmup_hold_decay,
)
from flamingo_blocks.training.checkpoints.manifest import read_manifest
from flamingo_blocks.training.checkpoints.tensor_files import read_layout
from flamingo_blocks.vision import CallableTower
from tests.flamingos import EXAMPLE_ROWS, SIDE, VISION_DIM, make_batch, make_flamingo
from tests.strategies import heavy, seeds
from tests.training.loop_runs import batch_of
from tests.training.sharded_checks import ROWS, make_model, make_rows
from tests.training.test_runs import ROWS as NUMBERS
from tests.training.test_runs import layer, mixture, numbers_loss, run, squares

# Weights move by their gradient.
PLAINLY = {"optimizer": "sgd", "lr": 1.0, "weight_decay": 0.0, "max_grad_norm": float("inf")}


def config(model, objectives, **changed):
    usual = {"steps": 1, "lr": 0.01, "schedule": warmup_hold_decay(warmup=1)}
    return TrainConfig(model=model, objectives=objectives, **(usual | changed))


def copied(model):
    """All parameters and buffers, each once."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: value.detach().clone() for name, value in named}


def moved_of(model, before):
    return {name for name, value in copied(model).items() if not torch.equal(value, before[name])}


cuts = st.lists(st.integers(1, ROWS - 1), unique=True, max_size=3).map(sorted)


@heavy(5)
@given(cuts=cuts, order=st.permutations(range(ROWS)))
def test_a_flamingo_learns_the_same_from_a_batch_in_any_parts(cuts, order):
    """Rows with and without images and labels, in any order: each weight moves by the gradient of the whole."""
    rows, models = make_rows(), [make_model().train() for _ in range(2)]
    parts = [rows[:], *([rows[row] for row in order][start:end] for start, end in itertools.pairwise([0, *cuts, ROWS]))]
    whole, *pieces = (batch_of(models[0], part) for part in parts)
    for model, batch in zip(models, (whole, BatchParts(pieces)), strict=True):
        train(config(model, [Objective(name="rows", batches=[batch], loss=flamingo_loss)], **PLAINLY))
    expected = copied(models[0])
    assert moved_of(models[0], copied(make_model())) == set(models[0].trained_parameters())
    for name, value in copied(models[1]).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)


def flamingo_with_a_norm():
    """Its tower keeps statistics, its language model drops out; both are frozen."""
    tower = nn.Sequential(nn.Conv2d(3, VISION_DIM, 4, stride=4), nn.BatchNorm2d(VISION_DIM), nn.Dropout())
    with torch.no_grad():
        tower[1].running_mean.fill_(0.3)
    return make_flamingo("plain", vision=CallableTower(tower, image_size=SIDE)).float()


def loss_of(model, seed):
    """The loss of the examples."""
    arguments = make_batch(EXAMPLE_ROWS, seed, dtype=torch.float32).arguments()
    arguments.pop("attention_mask")  # a decoder by hand takes none
    return model(**arguments, labels=arguments["input_ids"]).loss


@heavy(5)
@given(further=st.sets(st.sampled_from(["resampler", "blocks.0.attention", "token_rows"]), max_size=3))
def test_what_is_frozen_neither_moves_nor_is_saved(further, tmp_path_factory):
    """Parameters and buffers of the frozen parts, and of whatever is frozen besides; they run in eval mode."""
    model, modes, folder = flamingo_with_a_norm(), set(), tmp_path_factory.mktemp("frozen")
    for name in further:
        model.get_submodule(name).requires_grad_(False)
    frozen = [*model.lm.modules(), *model.vision.modules()]

    def loss(model, seed):
        modes.update(module.training for module in frozen)
        assert model.training
        return loss_of(model, seed)

    before, position = copied(model), mixture()
    objective = Objective(name="x", batches=itertools.count(), loss=loss)
    train(config(model, [objective], steps=2, data=position, checkpointer=Checkpointer(folder), save_every=2))
    trained = set(model.trained_parameters())
    assert modes == {False}
    assert moved_of(model, before) <= trained
    assert moved_of(model, before)
    saved = folder / "step-00000002"
    keys = read_layout(saved, read_manifest(saved).files).state_dict_metadata
    assert {key.removeprefix("model.") for key in keys if key.startswith("model.")} == trained


schedules = st.one_of(
    st.builds(warmup_hold_decay, warmup=st.integers(1, 4)),
    st.builds(cosine, warmup=st.integers(0, 2), steps=st.integers(5, 9)),
    st.builds(exponential, warmup=st.integers(1, 2), every=st.integers(1, 3), decay=st.floats(0.1, 1)),
)


@heavy(5)
@given(schedule=schedules, first=st.integers(1, 4))
def test_the_learning_rate_is_a_function_of_the_step_alone(schedule, first, tmp_path_factory):
    """Of no step before it and of no start: a run that goes on has the rates of its steps."""
    folder = tmp_path_factory.mktemp("rates")
    runs = [run(folder, steps, schedule=schedule)[0] for steps in (first, 5)]
    reports = [report for each in runs for report in each.reports]
    assert [report.step for report in reports] == list(range(5))
    assert [report.lr for report in reports] == pytest.approx([0.1 * schedule(step) for step in range(5)])


@pytest.mark.parametrize("decay", [0.0, 0.1])
@heavy(5)
@given(seed=seeds)
def test_at_zero_gates_the_first_step_moves_gates_and_token_rows_and_decays_matrices(decay, seed):
    """Behind closed gates no other weight has a gradient: those that decay lose exactly their decay, and the others
    nothing; from the second step on all move.
    """
    model, lr = make_flamingo("plain", closed=True).float(), 0.01
    states = [copied(model)]
    objective = Objective(name="x", batches=itertools.repeat(seed), loss=loss_of)
    keep = lambda _: states.append(copied(model))  # noqa: E731
    train(config(model, [objective], steps=3, lr=lr, weight_decay=decay, on_step=keep))
    before, after, *_, last = states
    for name in model.trained_parameters():
        if "gate.gate" in name or name.startswith("token_rows"):
            assert not torch.equal(after[name], before[name]), name
        elif name.startswith("blocks.") and before[name].ndim > 1:
            torch.testing.assert_close(after[name], before[name] * (1 - lr * decay), atol=0, rtol=1e-6)
        else:
            assert torch.equal(after[name], before[name]), name
        assert not torch.equal(last[name], after[name]), name


bad_numbers = st.sampled_from([float("nan"), float("inf"), float("-inf")])


def saved_tensors(folder, model):
    """What the newest checkpoint puts into a model and an optimiser: weights, buffers, moments."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    checkpoints = Checkpointer(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    checkpoints.load(model, optimizer)
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [*copied(model).values(), *moments]


def with_statistics():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


@heavy(5)
@given(places=st.sets(st.integers(0, 4), min_size=1, max_size=4), bad=bad_numbers)
def test_a_run_with_bad_batches_is_the_run_without_them(places, bad, tmp_path_factory):
    """Weights, moments and their counts, and the statistics of norms that train, bit for bit."""
    good, batches = [NUMBERS + number for number in range(3)], []
    for number in range(8):
        batches += [torch.full((2, 3), bad)] * (number in places) + good[number : number + 1]
    found = []
    for data in (batches, good):
        model, folder = with_statistics(), tmp_path_factory.mktemp("bad")
        objective = Objective(name="x", batches=data, loss=squares)
        settings = {"data": mixture(), "checkpointer": Checkpointer(folder), "save_every": 100, "lr": 0.1}
        result = train(config(model, [objective], steps=len(data), **settings))
        assert result.skipped == len(data) - 3
        found.append(saved_tensors(folder, with_statistics()))
    assert len(found[0]) == len(found[1]) > 12
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_bad_step_counts_in_data_and_random_numbers(tmp_path):
    """The step after it draws the batch, and from the generators, what it would have drawn after a good one."""

    def draws(spoilt):
        data, seen = mixture(), []

        def loss(model, batch):
            seen.append((batch.input_ids.tolist(), torch.rand(3).tolist()))
            return numbers_loss(model, batch) * (float("nan") if len(seen) == spoilt else 1.0)

        objective = Objective(name="numbers", batches=data.batches("numbers"), loss=loss)
        result = train(config(layer(), [objective], steps=4, data=data, seed=5))
        return seen, result.skipped, data.state_dict()

    calm, spoilt = draws(0), draws(2)
    assert (calm[1], spoilt[1]) == (0, 1)
    assert spoilt[0] == calm[0]
    assert spoilt[2] == calm[2]
    assert len({str(numbers) for _, numbers in calm[0]}) == 4


def test_without_a_label_that_counts_nothing_is_learnt():
    """The loss is an exact zero, the step is none to be skipped, and no weight moves but by decay."""
    model = build_tiny_flamingo()
    batch = batch_of(model, make_rows()[-2:])  # one row of images alone, one whose labels are masked
    before = copied(model)
    objective = Objective(name="none", batches=[batch], loss=flamingo_loss)
    (report,) = train(config(model, [objective], weight_decay=0.0)).reports
    assert (report.losses, report.grad_norm, report.skipped) == ({"none": 0.0}, 0.0, False)
    assert not moved_of(model, before)
