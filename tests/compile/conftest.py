"""Compiled code: every test here carries the mark `compile`, starts from an empty cache, and needs the checks off."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.said_to_the_compiler import let_the_compiler_warn

# A logger of the compiler that writes graphs out in full as soon as anybody listens, as pytest does to every logger.
logging.getLogger("torch.__trace").disabled = True


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not name
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.compile)
            let_the_compiler_warn(item)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No graph of another test is found again."""
    if os.environ.get("FLAMINGO_BLOCKS_SHAPE_CHECKS", "1") != "0":
        pytest.fail("torch.compile cannot trace checked annotations: set FLAMINGO_BLOCKS_SHAPE_CHECKS=0")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def num_graphs() -> Callable[[], int]:
    """Graphs that were compiled since the test began."""
    return lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]
