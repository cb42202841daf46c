"""Checkpoints of one process: what is in them, what comes back, and what stays."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks import Flamingo
from flamingo_blocks.data import FlamingoExample, collate
from flamingo_blocks.data.loading import DataSource, Mixture
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints import Checkpointer
from flamingo_blocks.training.checkpoints.manifest import Manifest, read_manifest
from flamingo_blocks.training.checkpoints.optimizer_parts import OptimizerParts
from flamingo_blocks.training.checkpoints.save import make_content
from flamingo_blocks.training.checkpoints.step_folders import Retention
from flamingo_blocks.training.checkpoints.tensor_files import read_layout
from flamingo_blocks.training.checkpoints.trained_tensors import trained_tensors
from tests.flamingos import make_batch, make_flamingo
from tests.language_models import make_language_model
from tests.training.checkpoint_runs import ROWS, Run, blocking, named, same, small, train_small


def test_a_run_that_goes_on_equals_one_that_was_never_stopped(tmp_path):
    """Parameters, buffers and moments after a save, a load into fresh ones and more steps are the same bit for bit."""
    uninterrupted, checkpoints = Run().train(3), Checkpointer(tmp_path / "run")
    Run().train(1).save(checkpoints, state={"tokens": 3}, config={"betas": (0.9, 0.95)}, metrics={"loss": 2.5})
    checkpoints.wait()
    resumed = Run().load(checkpoints)
    assert (resumed.loaded.step, resumed.loaded.state, resumed.loaded.config) == (
        1,
        {"tokens": 3},
        {"betas": [0.9, 0.95]},
    )
    assert resumed.loaded.metrics == {"loss": 2.5}
    assert resumed.loaded.differences == resumed.loaded.passed_over == ()
    assert same(resumed.train(3).everything(), uninterrupted.everything())


def test_a_checkpoint_holds_what_trains_and_nothing_else(tmp_path):
    """The tensors of a checkpoint are the trained ones with three numbers each of AdamW, and it is no larger than 1.05
    times these and a megabyte.
    """
    run = Run().train(1)
    run.save(blocking(tmp_path / "run"))
    folder = tmp_path / "run" / "step-00000001"
    assert named(folder) == [".metadata", "__0_0.distcp", "config.json", "manifest.json", "state.json"]
    keys = read_layout(folder, read_manifest(folder).files).state_dict_metadata.keys()
    trained = run.model.trained_parameters()
    moments = {f"optimizer.state.{name}.{moment}" for name in trained for moment in ("step", "exp_avg", "exp_avg_sq")}
    assert keys == {f"model.{name}" for name in trained} | moments
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size <= 1.05 * (12 * sum(parameter.numel() for parameter in trained.values()) + 1_000_000)


def test_buffers_are_kept_where_their_module_trains():
    """Of two norms the one that trains has its statistics in the checkpoint; so has a buffer beside trained modules,
    and none beside a mixture of trained and frozen ones.
    """
    model, _ = small()
    assert sorted(trained_tensors(model)) == [
        "2.bias", "2.weight", "3.bias", "3.num_batches_tracked", "3.running_mean", "3.running_var", "3.weight",
    ]  # fmt: skip
    held = nn.ModuleDict({"all": nn.Sequential(nn.Linear(1, 1)), "some": nn.Sequential(*small()[0])})
    for part in (*held.values(), held):
        part.register_buffer("count", torch.zeros(1))
    assert [name for name in trained_tensors(held) if name.endswith("count")] == ["all.count"]


def test_a_save_in_a_thread_keeps_what_stood_when_it_was_called(tmp_path):
    """Parameters and moments that are zeroed right after an asynchronous save come back as they were."""
    run, checkpoints = Run().train(1), Checkpointer(tmp_path)
    before = run.everything()
    run.save(checkpoints)
    with torch.no_grad():
        for parameter in run.optimizer.state:
            parameter.zero_()
            for moment in run.optimizer.state[parameter].values():
                moment.zero_()
    assert same(Run().load(checkpoints).everything(), before)


def test_the_position_of_a_mixture_goes_along(tmp_path):
    """A mixture that loads the state of a checkpoint gives the very next batch."""
    rows = DataSource(name="rows", documents=range(100), make=make_row, collate=collate_rows, batch_size=2)
    mixture, (model, optimizer) = Mixture([rows], seed=0), small()
    for _ in range(3):
        next(mixture)
    checkpoints = blocking(tmp_path)
    checkpoints.save(3, model, optimizer, state={"data": mixture.state_dict()})
    again = Mixture([rows], seed=0)
    again.load_state_dict(checkpoints.load(model, optimizer).state["data"])
    assert torch.equal(next(again)["rows"].input_ids, next(mixture)["rows"].input_ids)


def make_row(document, *, key):
    return FlamingoExample([document, 1])


def collate_rows(rows):
    return collate(rows, pad_id=0)


def test_hyper_parameters_of_the_run_win(tmp_path):
    """A resumed optimiser keeps its own learning rate and decay, and each that was another is told."""
    checkpoints = blocking(tmp_path)
    Run().train(1).save(checkpoints)
    resumed = Run(lr=0.5)
    resumed.optimizer.param_groups[0]["weight_decay"] = 0.7
    resumed.load(checkpoints)
    name = resumed.optimizer.param_groups[0]["name"]
    assert f"optimizer group {name}: base_lr was 0.001, is 0.5" in resumed.loaded.differences
    assert f"optimizer group {name}: weight_decay was 0.1, is 0.7" in resumed.loaded.differences
    assert {group["lr"] for group in resumed.optimizer.param_groups} == {0.5}
    assert len(resumed.loaded.differences) == len(resumed.optimizer.param_groups) + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda trained: torch.optim.SGD(trained, lr=0.1, momentum=0.9),
        lambda trained: torch.optim.AdamW(trained, lr=0.1, amsgrad=True),
        lambda trained: torch.optim.Adagrad(trained, lr=0.1),
        lambda trained: torch.optim.RAdam(trained, lr=0.1),
        lambda trained: torch.optim.Adafactor(trained, lr=0.1),
        lambda trained: Odd(trained, {"lr": 0.1}),
    ],
)
def test_every_optimiser_comes_back(make, tmp_path):
    """Whatever an optimiser keeps for a parameter comes back with its types, and goes on bit for bit."""
    (model, _), (other, _) = small(), small()
    optimizer, again = (make([p for p in one.parameters() if p.requires_grad]) for one in (model, other))
    other.load_state_dict(model.state_dict())
    train_small(model, optimizer)
    checkpoints = blocking(tmp_path)
    checkpoints.save(1, model, optimizer)
    checkpoints.load(other, again)
    for _ in range(2):
        train_small(model, optimizer)
        train_small(other, again)
    assert str(optimizer.state_dict()) == str(again.state_dict())
    assert same(model.state_dict(), other.state_dict())


class Odd(torch.optim.Optimizer):
    """Keeps numbers, and tensors in a mapping of numbers and in a list, as some do."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                kept = self.state[parameter]
                if not kept:
                    kept.update(count=0, by_beta={0.5: torch.zeros_like(parameter)}, past=[torch.zeros(1)], none=None)
                kept["count"] += 1
                kept["past"][0] += kept["count"]
                kept["by_beta"][0.5].mul_(0.5).add_(parameter.grad)
                parameter.sub_(group["lr"] * kept["by_beta"][0.5] * kept["past"][0])


def test_weights_come_back_without_an_optimiser(tmp_path):
    """Without an optimiser the weights alone are loaded, whether or not one was saved."""
    checkpoints, (model, optimizer), (other, _) = blocking(tmp_path), small(), small()
    other[:2].load_state_dict(model[:2].state_dict())
    checkpoints.save(1, model, optimizer)
    checkpoints.load(other)
    assert same(model.state_dict(), other.state_dict())
    checkpoints.save(2, model)
    assert checkpoints.load(other).step == 2
    with pytest.raises(CheckpointError, match="it holds no optimizer"):
        checkpoints.load(model, optimizer)


def test_states_that_were_never_made_stay_so(tmp_path):
    """A parameter without moments has none after the load either, and what an optimiser kept before is gone."""
    checkpoints, run, other = blocking(tmp_path), Run(), Run().train(1)
    run.save(checkpoints)
    other.load(checkpoints)
    assert not other.optimizer.state
    assert same(other.train(2).everything(), run.train(2).everything())


drawn_metrics = st.dictionaries(st.integers(0, 40), st.floats(-1, 1) | st.just(float("nan")), min_size=1, max_size=12)


@given(metrics=drawn_metrics, last=st.integers(1, 4), every=st.none() | st.integers(1, 10), highest=st.booleans())
def test_what_stays_is_what_was_asked_for(metrics, last, every, highest):
    """The newest, those of every n-th step and the best stay, and no other goes than goes by that."""
    retention = Retention(last, every, "score", "highest" if highest else "lowest")
    manifests = {
        step: Manifest(
            step=step, processes=1, metrics={"score": value}, frozen={}, optimizer=None, files={}, versions={}
        )
        for step, value in metrics.items()
    }  # fmt: skip
    known = {step: value for step, value in metrics.items() if not math.isnan(value)}
    best = (max if highest else min)(known.values(), default=None)
    stays = set(sorted(metrics)[-last:]) | {step for step in metrics if every and step % every == 0}
    if known:
        stays.add(max(step for step, value in known.items() if value == best))
        assert retention.best(manifests) in stays
    assert retention.outdated(manifests) == sorted(metrics.keys() - stays)


def test_the_folder_holds_what_stays(tmp_path):
    """Each save removes what is outdated, `steps`, `latest` and `best` tell what is there, and any of it is loaded."""
    checkpoints, (model, optimizer) = blocking(tmp_path, keep_last=2, keep_every=4, keep_best="loss"), small()
    assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([], None, None)
    for step in range(8):
        checkpoints.save(step, model, optimizer, metrics={"loss": abs(step - 2.2)})
    assert named(tmp_path) == ["step-00000000", "step-00000002", "step-00000004", "step-00000006", "step-00000007"]
    assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([0, 2, 4, 6, 7], 7, 2)
    assert checkpoints.load(model, optimizer, step=checkpoints.best()).metrics == {"loss": pytest.approx(0.2)}
    assert blocking(tmp_path, keep_best="loss", best_is="highest").best() == 7


def test_leftovers_of_a_killed_save_go_with_the_next(tmp_path):
    """Unfinished folders are no checkpoints, and the next save removes them."""
    (tmp_path / "step-00000009.tmp").mkdir()
    (tmp_path / "step-00000009.tmp" / "__0_0.distcp").write_text("half")
    checkpoints, (model, optimizer) = blocking(tmp_path), small()
    assert checkpoints.latest() is None
    with pytest.raises(CheckpointError, match="it has none"):
        checkpoints.load(model, optimizer)
    checkpoints.save(1, model, optimizer)
    assert named(tmp_path) == ["step-00000001"]


def test_equal_runs_write_equal_files(tmp_path):
    """Two saves of the same are the same in every byte: no time, no random name, no path is in them."""
    for name in ("one", "other"):
        Run().train(1).save(blocking(tmp_path / name))
    one, other = (sorted((tmp_path / name / "step-00000001").iterdir()) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in one)


def test_an_exported_model_is_a_flamingo(tmp_path):
    """What `export` writes is what `from_pretrained` loads, with the same logits bit for bit."""
    run = Run().train(2)
    blocking(tmp_path / "run").export(run.model, tmp_path / "export")
    loaded = Flamingo.from_pretrained(tmp_path / "export", lm=make_language_model("plain"), vision=run.model.vision)
    arguments = make_batch(ROWS[:1], 0, dtype=torch.float32).arguments()
    assert torch.equal(loaded(**arguments).logits, run.model.eval()(**arguments).logits)


def test_a_model_of_another_class_is_not_exported(tmp_path):
    """`export` names the class that it was given and the one that it wants."""
    with pytest.raises(ValueError, match="model is a Linear, wanted a Flamingo"):
        blocking(tmp_path).export(nn.Linear(1, 1), tmp_path / "export")


def test_an_optimiser_made_too_early_is_told():
    """Parameters that the model does not have any more, or that are frozen, are no state to keep."""
    model, optimizer = small()
    with pytest.raises(ValueError, match="make it after the model is sharded and frozen"):
        OptimizerParts(optimizer, small()[0])
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="optimizer has 4 parameters that are no trained ones"):
        OptimizerParts(optimizer, model)


def test_content_counts_its_bytes():
    """Four bytes a trained number, and eight for two moments of it."""
    model = make_flamingo("plain").float()
    optimizer = torch.optim.SGD(model.trained_parameters().values(), lr=0.1)
    content = make_content(0, model, optimizer, {"state": {}, "config": {}, "metrics": {}}, processes=1, frozen={})
    assert content.size_bytes == 4 * sum(parameter.numel() for parameter in model.trained_parameters().values())
