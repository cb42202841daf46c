"""What a run will need of memory and time, before there is a GPU."""

from flamingo_blocks.training.planning.batch_shape import BatchShape
from flamingo_blocks.training.planning.devices import DEVICES, DeviceFacts
from flamingo_blocks.training.planning.plan import plan_run
from flamingo_blocks.training.planning.run_plan import RunPlan
from flamingo_blocks.training.planning.tower_facts import NFNET_F6, TowerFacts

__all__ = [
    "DEVICES",
    "NFNET_F6",
    "BatchShape",
    "DeviceFacts",
    "RunPlan",
    "TowerFacts",
    "plan_run",
]
