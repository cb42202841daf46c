"""What is measured while a model trains, and that training does not feel it."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.nn import TanhGate
from flamingo_blocks.training import Objective, TrainConfig, train, warmup_hold_decay
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.watching.measures import FewShotScore, GateValues, SampleGenerations, gate_values
from flamingo_blocks.training.watching.undisturbed import undisturbed

np = pytest.importorskip("numpy")


def model_in_training():
    """Dropout, a part in eval mode, and gradients on some parameters."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1)).train()
    model[0].eval()
    model[0].weight.grad = torch.ones(3, 3)
    return model


def disturb(model, doing):
    """What an evaluation may do to a model and to the process."""
    if doing == "draw":
        torch.rand(3), random.random(), np.random.rand()  # noqa: S311 - no secrets
    elif doing == "seed":
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
    elif doing == "modes":
        model.train()
        model[2].eval()
    elif doing == "backward":
        with torch.enable_grad():
            model(torch.ones(2, 3)).sum().backward()
    elif doing == "zero":
        model.zero_grad()
    elif doing == "raise":
        raise KeyError("an evaluation that fails")


@given(doings=st.lists(st.sampled_from(("draw", "seed", "modes", "backward", "zero", "raise"))))
def test_training_does_not_feel_an_evaluation(doings):
    """Generators, the mode of every part and the gradients are what they were, also after an error."""
    model = model_in_training()
    gradient = model[0].weight.grad
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    def evaluate(model):
        for doing in doings:
            disturb(model, doing)
        return {}

    measure = FewShotScore(evaluate, model=model, every=1)
    try:
        measure(StepReport(0, {}, 1.0))
    except KeyError:
        assert "raise" in doings
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    assert [part.training for part in model] == [False, True, True]
    assert model[0].weight.grad is gradient
    assert torch.equal(gradient, torch.ones(3, 3))
    assert model[2].weight.grad is None


def test_an_evaluation_sees_the_model_in_eval_mode_without_gradients():
    """No part is in training mode, and what is computed has no graph."""
    model = model_in_training()
    with undisturbed(model):
        assert not any(part.training for part in model.modules())
        assert not model(torch.ones(1, 3)).requires_grad


def train_tiny(*, measured):
    """The weights after four steps of a Flamingo with dropout, looked at after each step or not."""
    torch.manual_seed(0)
    flamingo = build_tiny_flamingo(depth=1)
    flamingo.blocks["0"].feed_forward.norm.register_forward_hook(lambda m, a, out: nn.functional.dropout(out, 0.5))
    ids = torch.tensor([[1, flamingo.media_token_id, 5, 6]])
    pixels = torch.ones(1, 1, 3, 8, 8)
    objective = Objective(
        name="x", batches=[ids] * 4, loss=lambda model, batch: model(batch, pixels=pixels, labels=batch).loss
    )
    prompt = {"input_ids": ids[:, :2], "pixels": pixels}
    sample = SampleGenerations(
        flamingo, {"x": prompt}, decode=str, every=1, max_new_tokens=3, do_sample=True, temperature=2.0
    )
    score = FewShotScore(lambda model: {"loss": model(ids, pixels=pixels, labels=ids).loss}, model=flamingo, every=2)
    seen = []
    train(
        TrainConfig(
            model=flamingo,
            objectives=[objective],
            steps=4,
            lr=0.1,
            schedule=warmup_hold_decay(warmup=1),
            on_step=lambda given: seen.append({**sample(given), **score(given)}) if measured else None,
        )
    )
    return [p.detach().clone() for p in flamingo.parameters() if p.requires_grad], seen


def test_a_run_that_is_looked_at_ends_in_the_same_weights():
    """Samples and scores after each step change no bit of what is trained."""
    (plain, _), (watched, seen) = train_tiny(measured=False), train_tiny(measured=True)
    assert all(map(torch.equal, plain, watched))
    assert [sorted(found) for found in seen] == [["samples/x"], ["few_shot/loss", "samples/x"]] * 2


@given(values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=4))
def test_gate_values_are_the_tanh_of_the_gates(values):
    """By the name of each gate; of a gate with a value for each channel, the mean size."""
    model = nn.ModuleDict({f"gate{i}": TanhGate(init=value) for i, value in enumerate(values)})
    model["channels"] = TanhGate("channel", dim=2)
    with torch.no_grad():
        model["channels"].gate.copy_(torch.tensor([1.0, -1.0]))
    found = gate_values(model)
    assert found.pop("channels") == pytest.approx(torch.tensor(1.0).tanh().item())
    assert list(found.values()) == pytest.approx([torch.tensor(value).tanh().item() for value in values])
    assert list(found) == [f"gate{i}" for i in range(len(values))]


def test_gates_of_a_flamingo_are_named_by_their_layers():
    """Closed at the start; a model without gates has none."""
    names = ["blocks.0.attention_gate", "blocks.0.feed_forward_gate", "blocks.1.attention_gate"]
    assert list(gate_values(build_tiny_flamingo()))[:3] == names
    assert gate_values(nn.Linear(1, 1)) == {}


@given(every=st.integers(1, 7), steps=st.integers(1, 30))
def test_a_measure_is_taken_at_the_end_of_every_so_many_steps(every, steps):
    """So often as that number of steps fits into the run."""
    measure = GateValues(TanhGate(), every=every)
    taken = [step for step in range(steps) if measure(StepReport(step, {}, 1.0))]
    assert taken == list(range(every - 1, steps, every))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GateValues(nn.Linear(1, 1), every=0),
        lambda: FewShotScore(lambda model: {}, model=nn.Linear(1, 1), every=0),
        lambda: SampleGenerations(nn.Linear(1, 1), {}, decode=str, every=0),
    ],
)
def test_measuring_never_is_refused(make):
    """The error says what was wanted."""
    with pytest.raises(ValueError, match="every is 0, wanted 1 or more"):
        make()
