"""Compiled code: every test here carries the mark `compile`, starts from an empty cache, and needs the checks off."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

# A logger of the compiler that writes graphs out in full as soon as anybody listens, as pytest does to every logger.
logging.getLogger("torch.__trace").disabled = True


# What torch says of its own compiler's doing: nothing in our code brings it about.
SAID_TO_THE_COMPILER = [
    "The .grad attribute of a Tensor that is not a leaf",
    ".*torch.autograd.function.Function.* should not be instantiated",
    ".torch.jit.script_method. is deprecated",
]


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not name
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.compile)
            for said in SAID_TO_THE_COMPILER:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{said}"))


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
