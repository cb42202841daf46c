"""Tests of this folder need a CUDA device; where there is none they are skipped and say so."""

import pytest
import torch


@pytest.fixture(autouse=True)
def needs_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
