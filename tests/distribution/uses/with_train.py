"""A run shows a bar, keeps its lines and checkpoints, and saves its model."""

import torch

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import Checkpointer, RunLog, StepReport, adamw, param_groups

model = build_tiny_flamingo().train()
optimizer = adamw(param_groups(model, lr=1e-3))
ids = torch.full((1, 4), 5)
ids[:, 0] = model.media_token_id
model(ids, pixels=torch.ones(1, 1, 3, 8, 8), labels=ids).loss.backward()
optimizer.step()
with RunLog("run", progress=True) as log:
    log(StepReport(0, {"pages": 2.5}, 1.0, tokens={"pages": 256}, items={"pages": 5}, seconds=0.5))
checkpoints = Checkpointer("run/checkpoints")
checkpoints.save(1, model, optimizer, state={}, config={})
checkpoints.wait()
assert checkpoints.load(model, optimizer).step == 1
model.save_pretrained("run/model")
