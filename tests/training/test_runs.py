"""Runs that go on where they were, and what a step adds up."""

import itertools
import os
import signal
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.data import FlamingoExample, collate
from flamingo_blocks.data.loading import DataSource, Mixture
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training import (
    BatchParts,
    Objective,
    TrainConfig,
    make_optimizer,
    param_groups,
    train,
    warmup_hold_decay,
)
from flamingo_blocks.training.checkpoints import Checkpointer
from tests.training.loop_runs import weights_after

ROWS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


def squares(model, rows):
    return model(rows).square().mean()


def config(model, objectives, **changed):
    usual = {"steps": 1, "lr": 0.1, "schedule": warmup_hold_decay(warmup=1), "weight_decay": 0.0}
    return TrainConfig(model=model, objectives=objectives, **(usual | changed))


def layer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


@given(st.lists(st.integers(1, 11), max_size=3, unique=True).map(sorted))
def test_a_batch_in_parts_is_the_whole(cuts):
    """However it is cut: the mean over all of its rows, and not a mean of means."""
    whole, parts = nn.Linear(3, 1), nn.Linear(3, 1)
    parts.load_state_dict(whole.state_dict())
    pieces = BatchParts(ROWS[start:end] for start, end in itertools.pairwise([0, *cuts, 12]))
    reports = []
    for model, batch in ((whole, ROWS), (parts, pieces)):
        objective = Objective(name="x", batches=[batch], loss=squares, count=lambda _, rows: len(rows))
        reports += train(config(model, [objective])).reports
    assert reports[0].losses["x"] == pytest.approx(reports[1].losses["x"], rel=1e-5)
    assert reports[0].grad_norm == pytest.approx(reports[1].grad_norm, rel=1e-5)


def test_round_robin_is_one_data_set_a_step():
    """In turn, with an update each; a data set of weight 0 has no turn."""
    objectives = [
        Objective(name=name, batches=itertools.repeat(ROWS), loss=squares, weight=weight)
        for name, weight in (("a", 1.0), ("none", 0.0), ("b", 0.5))
    ]
    result = train(config(nn.Linear(3, 1), objectives, steps=4, updates="round_robin"))
    assert [list(report.losses) for report in result.reports] == [["a"], ["b"], ["a"], ["b"]]


def test_a_bad_step_may_end_the_run_with_its_batches():
    """They are handed out before the error, so that nothing is lost."""
    bad = torch.full((1, 3), float("nan"))
    seen = []
    objective = Objective(name="x", batches=[ROWS, bad], loss=squares)
    with pytest.raises(FloatingPointError, match="not finite in 1 step, up to step 1"):
        train(
            config(
                nn.Linear(3, 1),
                [objective],
                steps=2,
                on_bad_step="stop",
                on_bad_batches=lambda report, batches: seen.append((report.step, batches)),
            )
        )
    [(step, batches)] = seen
    assert step == 1
    assert batches["x"][0] is bad


def mixture(seed=0):
    return Mixture(
        [DataSource(name="numbers", documents=range(50), make=_row, collate=partial(collate, pad_id=0), batch_size=4)],
        seed=seed,
    )


def _row(document, *, key):
    return FlamingoExample([document, key[1]])


def numbers_loss(model, batch):
    return model(batch.input_ids[:, :1] * torch.ones(1, 3) / 50).square().mean()


def run(folder, steps, *, save_every=2, on_step=None, model=None, seed=3, name="numbers", **changed):
    data = mixture()
    model = layer() if model is None else model
    objective = Objective(name=name, batches=data.batches("numbers"), loss=numbers_loss)
    keeper = folder if folder is None or isinstance(folder, Checkpointer) else Checkpointer(folder)
    result = train(
        config(
            model,
            [objective],
            steps=steps,
            data=data,
            checkpointer=keeper,
            save_every=save_every,
            seed=seed,
            on_step=on_step,
            **changed,
        )
    )
    return result, {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_run_that_goes_on_is_the_uninterrupted_run(first, tmp_path):
    """Bit for bit: weights, moments, data and dropout; each step is done once."""
    calm, expected = run(None, 7)
    begun, _ = run(tmp_path, first)
    went_on, found = run(tmp_path, 7)
    assert went_on.first_step == first
    assert [*begun.reports, *went_on.reports][-1].losses == calm.reports[-1].losses
    assert [report.step for report in (*begun.reports, *went_on.reports)] == list(range(7))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("optimizer", ["madgrad", "lookahead", "torch_optimizer.radam", "AdamW"])
def test_counts_that_optimisers_keep_beside_their_options_go_on_too(optimizer, tmp_path):
    """Steps of MADGRAD and Lookahead stand in the groups; they are no difference of the configuration."""
    _, expected = run(None, 7, optimizer=optimizer)
    run(tmp_path, 3, optimizer=optimizer)
    went_on, found = run(tmp_path, 7, optimizer=optimizer)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert went_on.differences == ("steps: was 3, is 7",)


def test_betas_are_those_of_the_config_however_the_optimiser_is_written():
    """`AdamW` is `adamw`."""
    after = []
    for name in ("adamw", "AdamW"):
        objective = Objective(name="x", batches=[ROWS, 2 * ROWS], loss=squares)
        model = layer()[0]
        train(config(model, [objective], steps=2, optimizer=name, betas=(0.5, 0.6)))
        after.append(model.weight.detach().clone())
    assert torch.equal(*after)


def test_an_error_costs_no_checkpoint(tmp_path):
    """A save that is under way is on the disk before the error is heard."""

    def fail(report):
        if report.step == 2:
            raise RuntimeError("of the callback")

    with pytest.raises(RuntimeError, match="of the callback"):
        run(tmp_path, 7, on_step=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_a_signal_is_no_business_of_a_run_that_saves_nothing():
    """Who trains a part on the way to something else must not go on with half of it."""

    class Ends(BaseException):
        pass

    def end(*_):
        raise Ends

    def ask(report):
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Ends):
            run(None, 7, on_step=ask)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_does_not_break_the_last_save_off(tmp_path, monkeypatch):
    """Signals are remembered until it is on the disk."""
    wait = Checkpointer.wait

    def wait_and_hear(self):
        signal.raise_signal(signal.SIGTERM)
        wait(self)

    monkeypatch.setattr(Checkpointer, "wait", wait_and_hear)
    result, _ = run(tmp_path, 2)
    assert len(result.reports) == 2
    assert Checkpointer(tmp_path).latest() == 2


def test_a_checkpoint_of_another_loop_is_told(tmp_path):
    """Which lacks what `train` goes on with."""
    model = layer()
    keeper = Checkpointer(tmp_path, asynchronous=False)
    optimizer = make_optimizer("adamw", param_groups(model, lr=0.1, weight_decay=0.0))
    keeper.save(3, model, optimizer, state={"step": 3})
    with pytest.raises(CheckpointError, match=r"has no \['data', 'tokens'\] in its state"):
        run(tmp_path, 7)


def test_a_part_without_terms_may_have_a_loss_of_nan():
    """A mean over no label: it counts nothing, and the step is made."""
    batch = BatchParts([ROWS, ROWS[:0]])
    objective = Objective(name="x", batches=[batch], loss=squares, count=lambda _, rows: len(rows))
    whole = Objective(name="x", batches=[ROWS], loss=squares)
    reports = [train(config(nn.Linear(3, 1), [each])).reports[0] for each in (objective, whole)]
    assert not any(report.skipped for report in reports)


def test_a_signal_saves_and_ends(tmp_path):
    """At the end of the step at which it came; the run that goes on ends like the uninterrupted one."""

    def ask(report):
        if report.step == 2:
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    stopped, _ = run(tmp_path, 7, save_every=100, on_step=ask)
    assert signal.getsignal(signal.SIGTERM) is before
    assert stopped.stopped_by == "SIGTERM"
    assert [report.step for report in stopped.reports] == [0, 1, 2, 3]
    assert Checkpointer(tmp_path).latest() == 4
    went_on, found = run(tmp_path, 7, save_every=100)
    assert (went_on.first_step, went_on.stopped_by) == (4, None)
    _, expected = run(None, 7)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert os.getpid()


def test_what_a_checkpoint_had_otherwise_is_told(tmp_path):
    """Steps, learning rates and the like are followed as the configuration has them."""
    run(tmp_path, 2)
    went_on, _ = run(tmp_path, 4, save_every=3)
    assert went_on.differences == ("save_every: was 2, is 3", "steps: was 2, is 4")


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"seed": 4}, "seed is 4, and the checkpoints of .* are of a run with 3; give what it had, or another folder"),
     ({"updates": "round_robin"}, "updates is 'round_robin', and the checkpoints of .* with 'accumulate'"),
     ({"name": "others"}, r"objectives is \['others'\], and the checkpoints of .* with \['numbers'\]")],
)  # fmt: skip
def test_another_run_is_not_gone_on_with(changed, says, tmp_path):
    """Another seed, other data sets or another way of updates: the folder is of another run."""
    run(tmp_path, 2)
    with pytest.raises(ValueError, match=says):
        run(tmp_path, 4, **changed)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    """The one before it is taken, with a message, and the run ends like the uninterrupted one."""
    run(tmp_path, 4)
    (newest,) = (tmp_path / "step-00000004").glob("*.distcp")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    went_on, found = run(tmp_path, 7)
    _, expected = run(None, 7)
    assert went_on.first_step == 2
    [said] = went_on.passed_over
    assert "step-00000004" in said and "it is now" in said
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_several_processes_train_as_one(tmp_path):
    """Batches of uneven numbers of labels, one of them without any: the weights are those of one process."""
    expected = weights_after(1, tmp_path)
    for found in weights_after(2, tmp_path):
        for name, tensor in expected[0].items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"updates": "both"}, "updates is 'both', wanted one of 'accumulate', 'round_robin'"),
     ({"on_bad_step": "ask"}, "on_bad_step is 'ask', wanted one of 'skip', 'stop'"),
     ({"optimizer": "Adahessian"}, "optimizer is 'Adahessian', which needs the graph of the gradients"),
     ({"optimizer": "swats"}, "optimizer is 'swats', which sets its own learning rate"),
     ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0, wanted a norm above 0"),
     ({"save_every": 0}, "save_every is 0, wanted 1 step or more"),
     ({"checkpointer": Checkpointer("nowhere")}, "checkpointer is given and data is None")],
)  # fmt: skip
@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told_before_anything_is_done(changed, says):
    """With what was wanted."""
    objective = Objective(name="x", batches=[ROWS], loss=squares)
    with pytest.raises(ValueError, match=says):
        train(config(nn.Linear(3, 1), [objective], **changed))


def test_a_whole_mixture_is_no_data_set():
    """The hint names the data set's own batches."""
    objective = Objective(name="numbers", batches=mixture(), loss=numbers_loss)
    with pytest.raises(
        ValueError, match=r"is a whole Mixture; give it those of one source, mixture.batches\('numbers'"
    ):
        train(config(layer(), [objective]))


def test_a_batch_of_no_parts_is_told():
    """And at which step."""
    objective = Objective(name="x", batches=[BatchParts()], loss=squares)
    with pytest.raises(ValueError, match="'x' gave a batch of no parts at step 0"):
        train(config(nn.Linear(3, 1), [objective]))
