"""The group of the processes of torchrun: it is there for as long as its context lasts."""

import subprocess
import sys

import pytest

LEAVES = """
import importlib, sys, weakref

from torch import distributed

from flamingo_blocks.training.ranks.process_group import process_group

with process_group("gloo"):
    importlib.import_module(sys.argv[1])
    distributed.barrier()
    group = weakref.ref(distributed.group.WORLD)
    assert group() is not None
sys.exit(group() is not None)
"""


@pytest.mark.parametrize("module", ("torch.distributed.nn", "torch.distributed.optim", "torch.distributed.fsdp"))
def test_nothing_holds_a_group_that_was_left(module, monkeypatch):
    """Whatever is imported meanwhile: a held group has threads, which abort the process at its end now and then."""
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}.items():
        monkeypatch.setenv(name, str(value))
    command = [sys.executable, "-W", "error", "-c", LEAVES, module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
