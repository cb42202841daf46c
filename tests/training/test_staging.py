"""What a save in a thread sets aside before the run goes on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flamingo_blocks.training.checkpoints.save import _PIECE, make_content


def content_of(**tensors):
    about = dict.fromkeys(("state", "config", "metrics"))
    content = make_content(0, nn.Linear(1, 1), None, about, processes=1, frozen={})
    return replace(content, tensors=tensors)


class Written(TorchDispatchMode):
    """Keeps the largest number of elements that one copy writes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "copy" in function.name():
            self.largest = max(self.largest, *(tensor.numel() for tensor in tree_leaves(args[0])))
        return function(*args, **(kwargs or {}))


sizes = st.sampled_from([(), (0,), (1,), (3, 5), (_PIECE - 1,), (_PIECE,), (_PIECE + 1,), (2, _PIECE)])


@given(sizes, st.sampled_from([torch.float32, torch.bfloat16, torch.int64]), st.booleans(), st.booleans())
def test_what_is_set_aside_stays_what_it_was(shape, dtype, trained, turned):
    """Values, shape and dtype, whatever is done to the tensor afterwards; without a graph, in the same order."""
    tensor = torch.arange(torch.Size(shape).numel()).to(dtype).view(shape)
    tensor = tensor.t() if turned and tensor.ndim == 2 else tensor
    tensor = nn.Parameter(tensor) if trained and dtype.is_floating_point else tensor
    before = tensor.detach().clone()
    staged = content_of(a=tensor, b=torch.ones(2), c=tensor).staged().tensors
    with torch.no_grad():
        tensor.fill_(7)
    assert list(staged) == ["a", "b", "c"]
    for copy in (staged["a"], staged["c"]):
        assert torch.equal(copy, before) and copy.dtype == dtype and not copy.requires_grad


@pytest.mark.parametrize("shape", [(3 * _PIECE + 1,), (4, _PIECE)])
def test_no_copy_is_spread_over_threads(shape):
    """The pause waits for no thread that other work keeps from running: torch spreads copies of 32768 elements on."""
    assert _PIECE < 32768
    with Written() as written:
        content_of(a=torch.ones(shape)).staged()
    assert 0 < written.largest <= _PIECE
