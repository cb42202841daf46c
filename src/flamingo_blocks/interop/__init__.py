"""Checkpoints of other implementations: in, and out again."""

from flamingo_blocks.interop.checkpoint_files import ForeignCheckpoint, open_checkpoint
from flamingo_blocks.interop.export import export_foreign
from flamingo_blocks.interop.families import FAMILIES, detect_family, find_family
from flamingo_blocks.interop.key_map import Entry, Family, Plan
from flamingo_blocks.interop.load import load_foreign

__all__ = [
    "FAMILIES",
    "Entry",
    "Family",
    "ForeignCheckpoint",
    "Plan",
    "detect_family",
    "export_foreign",
    "find_family",
    "load_foreign",
    "open_checkpoint",
]
