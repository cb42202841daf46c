"""Whole runs from their configs: what is in the folder afterwards, going on, planning, and several processes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from flamingo_blocks.models import Flamingo, build_tiny_flamingo
from flamingo_blocks.training import (
    Checkpointer,
    Feed,
    Objective,
    RunConfig,
    TrainingSet,
    paper_sets,
    plan_config,
    start_run,
)
from tests.processes import run_together
from tests.training.run_configs import feed_of, lines_of, make_config, make_sets, run_in_each, write_corpus


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder)
    return folder


def load_model(folder):
    """The model that a run has saved, beside the parts that it was built of."""
    parts = build_tiny_flamingo(vocab_size=258)
    parts.detach()
    return Flamingo.from_pretrained(folder / "model", vision=parts.vision, lm=parts.lm)


def weights_of(folder):
    return load_model(folder).trained_parameters()


def test_a_run_leaves_checkpoints_metrics_and_the_model(data, tmp_path):
    """The model is the one that was trained, and the gates were read on the way."""
    result = start_run(make_config(data, tmp_path), progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "metrics.jsonl", "model"}
    assert [line["step"] for line in lines_of(tmp_path)] == [0, 1, 2, 3]
    assert set(lines_of(tmp_path)[-1]["losses"]) == {"pages", "pairs"}
    assert any(name.startswith("gates/") for name in lines_of(tmp_path)[1]["measured"])
    assert Checkpointer(tmp_path / "checkpoints").steps() == [2, 4]
    fresh = build_tiny_flamingo(vocab_size=258).trained_parameters()
    assert all(not torch.equal(weight, fresh[name]) for name, weight in weights_of(tmp_path).items() if "gate" in name)
    assert result.first_step == 0


def test_the_same_call_goes_on(data, tmp_path):
    """A run of two steps that is asked for four ends with the weights of one of four, bit for bit."""
    start_run(make_config(data, tmp_path / "whole"), progress=False)
    start_run(make_config(data, tmp_path / "parted", steps=2), progress=False)
    went_on = start_run(make_config(data, tmp_path / "parted"), progress=False)
    assert went_on.first_step == 2
    found, expected = weights_of(tmp_path / "parted"), weights_of(tmp_path / "whole")
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    again = start_run(make_config(data, tmp_path / "parted"), progress=False)
    assert not again.reports


def test_batches_in_parts_are_the_whole(data, tmp_path):
    """Two halves, one after the other: losses that differ in their last digits alone."""
    start_run(make_config(data, tmp_path / "whole"), progress=False)
    start_run(make_config(data, tmp_path / "halves", parts=2), progress=False)
    for whole, halves in zip(lines_of(tmp_path / "whole"), lines_of(tmp_path / "halves"), strict=True):
        assert whole["tokens"] == halves["tokens"]
        assert halves["losses"] == pytest.approx(whole["losses"], rel=1e-4)


def test_several_processes_do_the_run_of_one(data, tmp_path):
    """Each reads its share of the batches; losses and weights are those of one process."""
    start_run(make_config(data, tmp_path / "one"), progress=False)
    together = run_together(run_in_each, 2, data, tmp_path / "two", {"frozen": "shard"}, folder=tmp_path)
    assert together[0] == together[1]
    for one, two in zip(lines_of(tmp_path / "one"), lines_of(tmp_path / "two"), strict=True):
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    found = weights_of(tmp_path / "two")
    for name, weight in weights_of(tmp_path / "one").items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5)


def test_what_is_frozen_is_stored_in_half_precision(data, tmp_path):
    """And what trains in float32; recomputed activations change nothing."""
    seen = {}

    def feed(model):
        seen.update({name: weight.dtype for name, weight in model.named_parameters()})
        return feed_of(model, sets=make_sets(data))

    config = make_config(data, tmp_path, precision="bfloat16", recompute=True, export=False)
    start_run(RunConfig(**{**vars(config), "feed": feed}), progress=False)
    assert {dtype for name, dtype in seen.items() if name.startswith("lm.")} == {torch.bfloat16}
    assert {dtype for name, dtype in seen.items() if name.startswith("blocks.")} == {torch.float32}
    assert all(line["losses"]["pages"] > 0 for line in lines_of(tmp_path))
    assert not (tmp_path / "model").exists()


def test_a_plan_needs_neither_data_nor_memory(tmp_path):
    """The model is outlined on the meta device, and the folder of the data need not be there."""
    plan = plan_config(make_config(tmp_path / "nowhere", tmp_path / "run"), world_size=2, device="h100")
    assert plan.tokens == 4 * 40 + 8 * 24
    assert plan.trained["blocks"] > 0
    assert not (tmp_path / "run").exists()


def test_the_papers_sets():
    """Weights and batches as printed; smaller ones keep their proportions."""
    sets = {each.name: each for each in paper_sets(Path("data"), names=["clips", "long_pairs"])}
    assert [(each.rows, each.weight) for each in sets.values()] == [(64, 0.03), (512, 0.2)]
    assert sets["clips"].folder == Path("data/clips")
    assert sets["clips"].shape.frames == 8


@pytest.mark.parametrize(
    ("call", "says"),
    [(lambda data: paper_sets(data, names=["page"]), r"names has \['page'\], wanted some of pages, pairs"),
     (lambda data: paper_sets(data, divide=0), "divide is 0, wanted a divisor of 64"),
     (lambda data: feed_of(build_tiny_flamingo(), sets=make_sets(data), parts=3), "parts is 3, wanted a divisor"),
     (lambda data: feed_of(build_tiny_flamingo(), sets=make_sets(data / "none")), "folder of 'pages' is .*none"),
     (lambda data: make_config(data, data, precision="half"), "precision is 'half', wanted one of 'float32'"),
     (lambda data: make_config(data, data, frozen="no"), "frozen is 'no', wanted one of 'replicate'"),
     (lambda data: make_config(data, data, steps=0), "steps is 0, wanted 1 or more")],
)  # fmt: skip
@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told(call, says, data):
    """With what was wanted."""
    with pytest.raises(ValueError, match=says):
        call(data)


def test_options_of_a_flamingo_are_refused_for_others(tmp_path):
    """Recomputing and compiling are told before anything is trained."""
    config = RunConfig(
        build=lambda: nn.Linear(2, 1), feed=lambda model: Feed(objectives=[]), batches={}, steps=1, lr=0.1,
        folder=tmp_path, recompute=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="recompute and compile are for a Flamingo, and build made a Linear"):
        start_run(config, progress=False)


def test_a_run_without_a_position_keeps_no_checkpoint(tmp_path):
    """Batches that cannot be found again: metrics are written, and nothing to go on from."""
    objective = Objective(name="x", batches=[torch.ones(2, 2)] * 2, loss=lambda model, x: model(x).square().mean())
    config = RunConfig(
        build=lambda: nn.Linear(2, 1), feed=lambda model: Feed(objectives=[objective]), batches={}, steps=2, lr=0.1,
        folder=tmp_path,
    )  # fmt: skip
    assert len(start_run(config, progress=False).reports) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_set_tells_its_size():
    """Rows, tokens, items and frames of a step, for a plan."""
    each = TrainingSet(name="clips", folder=Path("c"), kind="captions", rows=2, text=5, frames=3)
    assert (each.shape.tokens, each.shape.num_items, each.shape.num_frames) == (10, 2, 6)
