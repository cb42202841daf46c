"""Checkpoints of other implementations: in, and out again."""

from flamingo_blocks.interop.checkpoint_files import ForeignCheckpoint, open_checkpoint
from flamingo_blocks.interop.export import export_foreign
from flamingo_blocks.interop.families import FAMILIES, detect_family, find_family
from flamingo_blocks.interop.key_map import Entry, Family, Plan
from flamingo_blocks.interop.load import load_foreign
from flamingo_blocks.interop.towers import IdeficsTower, MllamaTower
from flamingo_blocks.interop.transformers_inputs import idefics_inputs, mllama_inputs
from flamingo_blocks.interop.transformers_parts import idefics_parts, mllama_parts

__all__ = [
    "FAMILIES",
    "Entry",
    "Family",
    "ForeignCheckpoint",
    "IdeficsTower",
    "MllamaTower",
    "Plan",
    "detect_family",
    "export_foreign",
    "find_family",
    "idefics_inputs",
    "idefics_parts",
    "load_foreign",
    "mllama_inputs",
    "mllama_parts",
    "open_checkpoint",
]
