"""open_flamingo's model and loop as the benchmarks run them: what it asks of frozen weights, and what is compared."""

import sys
from datetime import timedelta

import pytest
import torch
from torch import distributed

from benchmarks.cases import peers, train_loop
from benchmarks.cases.train import Setup, build_ours
from flamingo_blocks.training import Objective, TrainConfig, flamingo_loss, train
from flamingo_blocks.training.ranks.shard import shard

SETUP = Setup(media=3, tokens=4, patches=5, latents=3, dim=16, vision_dim=12, depth=2, vocab=24)


@pytest.fixture
def alone():
    """A process group of one, in this process."""
    distributed.init_process_group(
        "gloo", store=distributed.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=20)
    )
    yield
    distributed.destroy_process_group()


@pytest.fixture
def ours():
    """A Flamingo around the language model of the benchmarks; skipped where there are no peers."""
    pytest.importorskip("transformers")
    if why := peers.missing("open_flamingo"):
        pytest.skip(why)
    return build_ours(SETUP)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:FSDP is switching to use")
@pytest.mark.filterwarnings("ignore:.*FullyShardedDataParallel.*:FutureWarning")
def test_frozen_layers_have_gradients_under_their_sharding_and_none_under_ours(alone, ours):
    """Its wrapping asks a gradient of every weight of the layers, and the backward pass makes them all; ours makes
    none.
    """
    theirs = train_loop._their_model(SETUP, ours)
    theirs.wrap_fsdp({"use_orig_params": True, "device_id": torch.device("cpu")}, torch.device("cpu"))
    rows = train_loop.Rows(SETUP, ours, rows=2, media=3, lead=1, dtype="float32")
    images, _ = rows.pages()
    theirs(images[:, :, None], rows.ids, rows.real.long(), labels=rows.labels)[0].backward()
    layers = [p for block in theirs.lang_encoder.old_decoder_blocks for p in block.parameters()]
    assert layers
    assert all(weight.requires_grad and weight.grad is not None for weight in layers)
    for frozen in ("replicate", "shard"):
        model = shard(build_ours(SETUP), frozen=frozen, mixed_precision=False)
        flamingo_loss(model, rows.ours()).backward()
        assert not any(weight.requires_grad or weight.grad is not None for weight in model.lm.parameters())
        assert all(weight.grad is not None for weight in model.trained_parameters().values())


@pytest.mark.peers
def test_their_loop_is_loaded_without_wandb(ours):
    """And leaves no empty module behind for others to find."""
    before = "wandb" in sys.modules
    assert callable(peers.load_open_flamingo_loop().train_one_epoch)
    assert ("wandb" in sys.modules) == before


@pytest.mark.peers
def test_rows_hold_labels_that_are_left_out(ours):
    """Text before the first tag and between chunks, so that agreement says something of the masks."""
    rows = train_loop.Rows(SETUP, ours, rows=2, media=3, lead=1, dtype="float32")
    left_out = (rows.labels == -100)[0].tolist()
    #                     text  tag   text   end    text  tag   text   end    text  tag   text   end
    assert left_out == [True, True, False, False, True, True, False, False, True, True, False, False]
    objective = Objective(name="pages", batches=[rows.ours()], loss=flamingo_loss)
    [report] = train(TrainConfig(model=ours, objectives=[objective], steps=1, lr=1e-4)).reports
    assert report.items == {"pages": 6}
