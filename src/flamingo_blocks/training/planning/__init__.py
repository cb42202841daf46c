"""What a run will need of memory and time, before there is a GPU."""

from flamingo_blocks.training.planning.batch_shape import BatchShape
from flamingo_blocks.training.planning.devices import DEVICES, DeviceFacts
from flamingo_blocks.training.planning.plan import plan_run
from flamingo_blocks.training.planning.run_plan import RunPlan

__all__ = [
    "DEVICES",
    "BatchShape",
    "DeviceFacts",
    "RunPlan",
    "plan_run",
]
