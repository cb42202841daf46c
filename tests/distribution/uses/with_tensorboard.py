"""Curves of a run are written."""

from pathlib import Path

from flamingo_blocks.training import RunLog, StepReport

with RunLog("run", tensorboard=True, progress=False) as log:
    log(StepReport(0, {"pages": 2.5}, 1.0, tokens={"pages": 256}, items={"pages": 5}, seconds=0.5))
assert list(Path("run/tensorboard").glob("events.*"))
