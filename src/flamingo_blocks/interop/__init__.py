"""Checkpoints of other implementations: in, and out again."""

from flamingo_blocks.interop.checkpoint_files import ForeignCheckpoint, open_checkpoint
from flamingo_blocks.interop.conversion_record import ConversionRecord, read_record, write_record
from flamingo_blocks.interop.export import export_foreign
from flamingo_blocks.interop.families import FAMILIES, detect_family, find_family
from flamingo_blocks.interop.inspect_checkpoint import Inspection, inspect_checkpoint, is_ours
from flamingo_blocks.interop.key_map import Entry, Family, Outline, Outlined, Plan
from flamingo_blocks.interop.load import load_foreign, plan_foreign
from flamingo_blocks.interop.towers import IdeficsTower, MllamaTower
from flamingo_blocks.interop.transformers_inputs import idefics_inputs, mllama_inputs
from flamingo_blocks.interop.transformers_leak import transformers_leak
from flamingo_blocks.interop.transformers_parts import idefics_parts, mllama_parts
from flamingo_blocks.interop.write_checkpoint import write_checkpoint, written_whole

__all__ = [
    "FAMILIES",
    "ConversionRecord",
    "Entry",
    "Family",
    "ForeignCheckpoint",
    "IdeficsTower",
    "Inspection",
    "MllamaTower",
    "Outline",
    "Outlined",
    "Plan",
    "detect_family",
    "export_foreign",
    "find_family",
    "idefics_inputs",
    "idefics_parts",
    "inspect_checkpoint",
    "is_ours",
    "load_foreign",
    "mllama_inputs",
    "mllama_parts",
    "open_checkpoint",
    "plan_foreign",
    "read_record",
    "transformers_leak",
    "write_checkpoint",
    "write_record",
    "written_whole",
]
