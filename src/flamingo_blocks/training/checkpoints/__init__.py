"""Checkpoints of a run: saved beside the training, checked before they are loaded."""

from flamingo_blocks.training.checkpoints.checkpointer import Checkpointer
from flamingo_blocks.training.checkpoints.loaded import Loaded

__all__ = ["Checkpointer", "Loaded"]
