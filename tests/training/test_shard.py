"""Models over several processes: the same gradients, laws and texts as in one; and what cannot be sharded."""

import os
from datetime import timedelta

import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training.ranks import check_shardable
from flamingo_blocks.training.ranks.gradients import averaged_over, gradient_sync, sum_over_ranks
from flamingo_blocks.training.ranks.shard import shard
from tests.processes import run_together
from tests.training import sharded_checks

BOUND = 1e-6
OF_TWO = (
    "check_gradients", "check_splits", "check_clipping", "check_messages", "check_frozen", "check_laws",
    "check_inference", "check_mixed_precision", "check_start", "check_order",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes have found, by check and rank: one start for all of them."""
    ranks = run_together(sharded_checks.run, 2, OF_TWO, folder=tmp_path_factory.mktemp("two"))
    return {check: [rank[check] for rank in ranks] for check in OF_TWO}


def test_gradients_are_those_of_one_process(found):
    """Frozen weights whole or sharded, weights kept or gathered anew, replicas or none, recomputed or kept; one rank
    has micro-batches without media, and one without labels.
    """
    for errors in found["check_gradients"]:
        assert len(errors) == 11
        assert {way: error for way, error in errors.items() if not error <= BOUND} == {}


def test_gradients_do_not_depend_on_who_has_which_row(found):
    """Rows are drawn onto ranks and into micro-batches, media and labels with them."""
    for errors in found["check_splits"]:
        assert max(errors.values()) <= BOUND


def test_the_norm_and_the_clipped_gradients_are_those_of_one_process(found):
    """On every rank, as a whole tensor."""
    for rank in found["check_clipping"]:
        norm, expected = rank["norms"]
        assert abs(norm - expected) <= BOUND * expected
        assert rank["error"] <= BOUND


def test_a_gradient_that_is_not_finite_on_one_rank_is_told_on_all_and_left_alone(found):
    """So that all of them skip the same step, and none has scaled its part."""
    for rank in found["check_clipping"]:
        assert rank["bad norm"] == float("inf") and rank["untouched"]


def test_each_group_is_reduced_once_a_step(found):
    """Resampler, two blocks and the rest: four messages for three micro-batches; fewer gathers where weights stay."""
    for rank in found["check_messages"]:
        assert rank["sync"]["reduce_scatter_base"] == rank["gathered"]["reduce_scatter_base"] == 4
        assert rank["gathered"]["allgather_base"] < rank["sync"]["allgather_base"]


def test_frozen_weights_need_no_gradient(found):
    """Whole or sharded they want none, none is made or kept for them, and what ranks reduce is what trains."""
    for rank in found["check_frozen"]:
        for frozen, results in rank.items():
            assert (results.pop("sharded") > 0) == (frozen == "shard")
            assert (results.pop("looked at") > 0) == (frozen == "shard")
            assert results == {"wanted": [], "there": [], "kept": [], "beyond": 0}


def test_closed_gates_are_the_bare_model_bit_for_bit(found):
    """Of a sharded model too."""
    assert all(rank[frozen, "closed"] for rank in found["check_laws"] for frozen in sharded_checks.FROZEN)


def test_an_image_reaches_the_text_behind_it_alone(found):
    """Images at columns 1 and 4: nothing before them changes with them, and all behind them does."""
    for rank in found["check_laws"]:
        for frozen in sharded_checks.FROZEN:
            assert rank[frozen, 0] == [False] + [True] * 6
            assert rank[frozen, 1] == [False] * 4 + [True] * 3


def test_every_call_runs_beside_other_ranks_that_generate_longer(found):
    """Texts, media, scores and logits are those of one process, and afterwards no weight is left gathered."""
    for rank in found["check_inference"]:
        for way, results in rank.items():
            assert results.pop("held") == [], way
            assert all(results.values()), (way, results)


def test_a_step_in_bfloat16_keeps_what_trains_in_float32(found):
    """Parameters, gradients and moments; its gradients are near those in float32, and no frozen weight moves."""
    for rank in found["check_mixed_precision"]:
        for results in rank.values():
            assert results["dtypes"] == ["torch.float32"] and results["moments"]
            assert results["gathered"] == ["torch.bfloat16"]
            assert results["frozen"] == ["torch.bfloat16"] and results["still"]
            assert 1e-5 < results["error"] < 0.03


def test_all_ranks_start_from_the_first(found):
    """However each has drawn its model."""
    assert found["check_start"] == [0.0, 0.0]


def test_blocks_run_before_the_weights_of_their_layers_are_gathered(found):
    """And a call that raised, before or in the middle of a layer, leaves nothing gathered and a model that trains
    on exactly.
    """
    for rank in found["check_order"]:
        assert rank["sharded when blocks run"] == [True, True]
        assert rank["held"] == []
        assert rank["error"] <= BOUND


@pytest.mark.full
def test_four_ranks_on_two_machines_are_one_process(tmp_path, monkeypatch):
    """Shards within machines, and replicas over them."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in run_together(sharded_checks.run, 4, ("check_gradients", "check_splits"), folder=tmp_path):
        assert max(rank["check_gradients"].values()) <= BOUND
        assert max(rank["check_splits"].values()) <= BOUND


@pytest.mark.full
def test_compiled_regions_are_sharded(tmp_path):
    """With layers that recompute themselves, blocks and resampler too."""
    for rank in run_together(sharded_checks.run, 2, ("check_compiled",), folder=tmp_path):
        assert rank["check_compiled"] <= BOUND


@pytest.mark.full
def test_a_model_of_transformers_is_sharded(tmp_path):
    """The same gradients, and its own `generate` goes on beside ranks with longer texts."""
    for rank in run_together(sharded_checks.run, 2, ("check_transformers",), folder=tmp_path):
        for results in rank["check_transformers"].values():
            assert results["text"] and results["error"] <= BOUND


@pytest.fixture
def alone():
    """A process group of one, in this process."""
    distributed.init_process_group(
        "gloo", store=distributed.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=20)
    )
    yield
    distributed.destroy_process_group()


def test_a_group_of_one_trains_as_no_group(alone):
    """One rank with the same code: gradients bit for bit, and sums that are what they were."""
    ids = torch.tensor([[1, 32, 5, 6]])
    plain, model = build_tiny_flamingo(), shard(build_tiny_flamingo(), mixed_precision=False)
    for one in (plain, model):
        with gradient_sync(one, last=True):
            (one(ids, pixels=torch.ones(1, 1, 3, 8, 8), labels=ids).loss * averaged_over(one)).backward()
    expected = {name: p.grad for name, p in plain.trained_parameters().items()}
    for name, parameter in model.trained_parameters().items():
        assert torch.equal(parameter.grad.full_tensor(), expected[name])
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(sum_over_ranks(values), values)


def test_any_module_is_sharded_as_a_whole(alone):
    """Without blocks there is one group."""
    model = shard(nn.Sequential(nn.Linear(2, 3), nn.Tanh()), mixed_precision=False)
    assert hasattr(model, "unshard") and not hasattr(model[0], "unshard")


def test_frozen_weights_are_whole_or_sharded_and_the_tower_is_whole(alone):
    """Layers without anything to shard are left as they are."""
    for frozen in sharded_checks.FROZEN:
        model = shard(build_tiny_flamingo(), frozen=frozen)
        sharded = {name for name, parameter in model.named_parameters() if hasattr(parameter, "device_mesh")}
        assert sharded >= model.trained_parameters().keys()
        assert any(name.startswith("lm.") for name in sharded) == (frozen == "shard")
        assert not any(name.startswith("vision.") for name in sharded)
        assert hasattr(model.lm.layers[0], "unshard") == (frozen == "shard")


def mixed(model):
    model.blocks["0"].attention_gate.half()


def scalar(model):
    gate = model.blocks["0"].attention_gate
    gate.gate = nn.Parameter(gate.gate[0].detach())


def quantised(model):
    head = model.lm.layers[1].o_proj
    head.weight = nn.Parameter(head.weight.detach().to(torch.int8), requires_grad=False)


def shared(model):
    model.blocks["1"].attention.q_proj.weight = model.blocks["0"].attention.q_proj.weight


def wrapped(model):
    model.lm.layers[1] = checkpoint_wrapper(model.lm.layers[1])


REFUSED = [
    (mixed, {}, r"blocks\.0' have several dtypes: .* is torch\.float32, .*gate' is torch\.float16; wanted one"),
    (lambda model: model.double(), {}, r"mixed_precision is True, but .* is torch\.float64.*prepare_precision"),
    (scalar, {}, r"'blocks\.0\.attention_gate\.gate' is a scalar.*give it the shape \[1\]"),
    (quantised, {"frozen": "shard"}, r"'lm\.layers\.1\.o_proj\.weight' is quantised .*int8.*frozen=\"replicate\""),
    (shared, {}, r"'blocks\.1\.attention\.q_proj\.weight' is shared by 'blocks\.0' and 'blocks\.1'"),
    (wrapped, {}, r"'lm\.layers\.1' is wrapped by torch's checkpoint_wrapper"),
    (lambda model: model.requires_grad_(False), {}, "is a Flamingo without a parameter that needs a gradient"),
    (shard, {}, r"model is sharded already, from '' on"),
    (lambda model: None, {"frozen": "keep"}, "frozen is 'keep', wanted 'replicate' or 'shard'"),
    (lambda model: None, {"hybrid": True}, "LOCAL_WORLD_SIZE is 3 of 1 ranks"),
]


@pytest.mark.parametrize(("change", "options", "message"), REFUSED)
def test_what_cannot_be_sharded_is_refused(alone, without_shape_checks, monkeypatch, change, options, message):
    """Before anything is changed, and the message says what to do."""
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "3")
    model = build_tiny_flamingo()
    change(model)
    before = [(name, type(module)) for name, module in model.named_modules()]
    with pytest.raises(ValueError, match=message):
        shard(model, **options)
    assert [(name, type(module)) for name, module in model.named_modules()] == before


def test_frozen_quantised_weights_may_stay_whole(alone):
    """They are left out of the shards."""
    model = build_tiny_flamingo()
    quantised(model)
    shard(model, frozen="replicate")
    assert not hasattr(model.lm.layers[1].o_proj.weight, "device_mesh")


def test_meshes_of_the_wrong_kind_are_refused(alone):
    """Of three axes, of two without names, or beside `hybrid`."""
    model = build_tiny_flamingo()
    for shape in ((1, 1, 1), (1, 1)):
        with pytest.raises(ValueError, match=f"mesh has {len(shape)} axes named None, wanted one, or two with names"):
            shard(model, init_device_mesh("cpu", shape))
    with pytest.raises(ValueError, match="hybrid is True beside a mesh"):
        shard(model, init_device_mesh("cpu", (1,)), hybrid=True)


def test_without_a_process_group_nothing_is_sharded():
    """And the message names torchrun."""
    with pytest.raises(RuntimeError, match=r"start the script by torchrun.*init_process_group"):
        shard(build_tiny_flamingo())


def test_a_torch_that_cannot_is_told_which_one_can(monkeypatch):
    """One without `ignored_params`, and one without FSDP2."""
    from torch.distributed import fsdp

    monkeypatch.setattr(fsdp, "fully_shard", lambda module, *, mesh=None: module)
    with pytest.raises(RuntimeError, match=r"takes no ignored_params.*wanted torch 2\.10 or newer"):
        check_shardable.fully_shard_of_torch()
    monkeypatch.delattr(fsdp, "fully_shard")
    with pytest.raises(RuntimeError, match=r"has no torch\.distributed\.fsdp\.fully_shard; wanted .* 2\.10"):
        check_shardable.fully_shard_of_torch()
