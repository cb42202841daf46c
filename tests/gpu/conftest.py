"""Tests of this folder that are marked `gpu` need a CUDA device; where there is none they are skipped and say so."""

from pathlib import Path

import pytest
import torch

from tests.said_to_the_compiler import let_the_compiler_warn


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            let_the_compiler_warn(item)


@pytest.fixture(autouse=True)
def needs_cuda(request) -> None:
    """What has no mark is rehearsed on the CPU."""
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
