"""An optimiser of torch-optimizer takes a step."""

import torch

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import make_optimizer, param_groups

model = build_tiny_flamingo().train()
optimizer = make_optimizer("lamb", param_groups(model, lr=1e-3))
ids = torch.full((1, 4), 5)
ids[:, 0] = model.media_token_id
model(ids, pixels=torch.ones(1, 1, 3, 8, 8), labels=ids).loss.backward()
optimizer.step()
