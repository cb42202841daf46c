"""Tasks, read from their official files, and tasks of one's own."""

from flamingo_blocks.evaluation.tasks.custom import read_custom_task
from flamingo_blocks.evaluation.tasks.imagenet import IMAGENET
from flamingo_blocks.evaluation.tasks.ivqa import IVQA
from flamingo_blocks.evaluation.tasks.kinetics import KINETICS700
from flamingo_blocks.evaluation.tasks.next_qa import NEXT_QA
from flamingo_blocks.evaluation.tasks.rareact import RAREACT, rareact_caption
from flamingo_blocks.evaluation.tasks.star import STAR
from flamingo_blocks.evaluation.tasks.vatex import VATEX
from flamingo_blocks.evaluation.tasks.video_qa import MSRVTT_QA, MSVD_QA
from flamingo_blocks.evaluation.tasks.visdial import VISDIAL
from flamingo_blocks.evaluation.tasks.youcook2 import YOUCOOK2

__all__ = [
    "IMAGENET",
    "IVQA",
    "KINETICS700",
    "MSRVTT_QA",
    "MSVD_QA",
    "NEXT_QA",
    "RAREACT",
    "STAR",
    "VATEX",
    "VISDIAL",
    "YOUCOOK2",
    "rareact_caption",
    "read_custom_task",
]
