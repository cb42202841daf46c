"""Nearest items by faiss are those that torch finds."""

import torch

from flamingo_blocks.evaluation.shots import nearest_items

rows, asked = torch.randn(50, 8), torch.randn(3, 8)
assert torch.equal(nearest_items(rows, asked, k=4, backend="faiss"), nearest_items(rows, asked, k=4))
