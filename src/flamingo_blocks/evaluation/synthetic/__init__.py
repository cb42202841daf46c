"""Few-shot tasks whose images must be used: drawn ones, without a file, and those of VL-ICL Bench."""

from flamingo_blocks.evaluation.synthetic.chance import chance
from flamingo_blocks.evaluation.synthetic.cut_exact_match import CutExactMatch, CutRule, cut_answer
from flamingo_blocks.evaluation.synthetic.read_vl_icl import VL_ICL, read_vl_icl
from flamingo_blocks.evaluation.synthetic.synthetic_task import SYNTHETIC, synthetic_task
from flamingo_blocks.evaluation.synthetic.vl_icl_summary import VlIclSummary, vl_icl_summary
from flamingo_blocks.evaluation.synthetic.write_vl_icl import write_vl_icl

__all__ = [
    "SYNTHETIC",
    "VL_ICL",
    "CutExactMatch",
    "CutRule",
    "VlIclSummary",
    "chance",
    "cut_answer",
    "read_vl_icl",
    "synthetic_task",
    "vl_icl_summary",
    "write_vl_icl",
]
