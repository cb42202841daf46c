"""Runs on a CUDA device: those of the CPU up to rounding, gone on with bit for bit, sharded over NCCL too."""

import os

import pytest
import torch
from torch import distributed

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import TrainConfig, shard, start_run, train, warmup_hold_decay
from tests.training.run_configs import feed_of, lines_of, make_config, make_sets, write_corpus

pytestmark = pytest.mark.gpu


@pytest.fixture
def data(tmp_path):
    write_corpus(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def _one_rank_of_torchrun(monkeypatch):
    """A process group over NCCL of this process alone, whose blocks are sharded all the same."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}.items():
        monkeypatch.setenv(name, value)
    torch.cuda.set_device(0)
    distributed.init_process_group("nccl")
    yield
    distributed.destroy_process_group()


def losses_of(folder):
    return [line["losses"] for line in lines_of(folder)]


def test_a_run_is_that_of_the_cpu(data, tmp_path):
    """The same losses within the rounding of float32, from batches that are moved to the device."""
    for device in ("cpu", "cuda"):
        start_run(make_config(data, tmp_path / device, device=device), progress=False)
    for found, expected in zip(losses_of(tmp_path / "cuda"), losses_of(tmp_path / "cpu"), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


def test_a_run_goes_on_bit_for_bit(data, tmp_path):
    """With deterministic kernels, in bfloat16, and saved while the next step runs."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        options = {"device": "cuda", "precision": "bfloat16"}
        start_run(make_config(data, tmp_path / "whole", **options), progress=False)
        for steps in (2, 4):
            start_run(make_config(data, tmp_path / "parted", steps=steps, **options), progress=False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert losses_of(tmp_path / "parted") == losses_of(tmp_path / "whole")


def test_memory_is_measured_on_the_device(data, tmp_path):
    """The peak of the device, not of the process."""
    start_run(make_config(data, tmp_path, device="cuda", export=False), progress=False)
    assert 0 < lines_of(tmp_path)[-1]["memory_bytes"] <= torch.cuda.max_memory_allocated()


@pytest.mark.usefixtures("_one_rank_of_torchrun")
def test_a_sharded_run_is_the_run(data, tmp_path):
    """FSDP2 over NCCL on one rank: losses of the run that is not sharded, and the norm of all gradients."""
    reports = []
    for sharded in (False, True):
        model = build_tiny_flamingo(vocab_size=258).cuda()
        if sharded:
            shard(model.train(), mixed_precision=False)
        feed = feed_of(model, sets=make_sets(data))
        schedule = warmup_hold_decay(warmup=1)
        config = TrainConfig(model=model, objectives=feed.objectives, steps=3, lr=1e-2, schedule=schedule)
        reports.append(train(config).reports)
    for alone, together in zip(*reports, strict=True):
        assert together.losses == pytest.approx(alone.losses, rel=1e-4)
        assert together.grad_norm == pytest.approx(alone.grad_norm, rel=1e-3)
