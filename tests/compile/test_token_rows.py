"""Rows of new tokens in compiled code: hooks that hand ids from one to the other break no graph."""

import torch
from torch import nn

from flamingo_blocks.lm import attach_token_rows

IDS = torch.tensor([[3, 10, 11, 9]])


class ByKeyword(nn.Module):
    """A decoder that says `input=`."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)

    def forward(self, ids):
        return self.head(input=self.table(input=ids))


def test_a_model_with_token_rows_is_one_graph():
    """Called in place or by keyword, it gives what it gives in eager code, with the same gradients."""
    for lm in (nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)), ByKeyword()):
        rows = list(attach_token_rows(lm, 2).parameters())
        compiled = torch.compile(lm, fullgraph=True, backend="aot_eager")
        for ids in (IDS, IDS.flip(1)):
            actual, expected = compiled(ids), lm(ids)
            torch.testing.assert_close(actual, expected)
            gradients = [torch.autograd.grad(out.sin().sum(), rows) for out in (actual, expected)]
            for ours, theirs in zip(*gradients, strict=True):
                torch.testing.assert_close(ours, theirs)
