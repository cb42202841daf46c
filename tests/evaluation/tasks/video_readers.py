"""The readers of the video tasks, dialogues and classes by name."""

from flamingo_blocks.evaluation.tasks.imagenet import IMAGENET
from flamingo_blocks.evaluation.tasks.ivqa import IVQA
from flamingo_blocks.evaluation.tasks.kinetics import KINETICS700
from flamingo_blocks.evaluation.tasks.next_qa import NEXT_QA
from flamingo_blocks.evaluation.tasks.rareact import RAREACT
from flamingo_blocks.evaluation.tasks.star import STAR
from flamingo_blocks.evaluation.tasks.vatex import VATEX
from flamingo_blocks.evaluation.tasks.video_qa import MSRVTT_QA, MSVD_QA
from flamingo_blocks.evaluation.tasks.visdial import VISDIAL
from flamingo_blocks.evaluation.tasks.youcook2 import YOUCOOK2

VIDEO_READERS = {
    reader.name: reader
    for reader in (
        VISDIAL, MSVD_QA, MSRVTT_QA, STAR, VATEX, YOUCOOK2, IVQA, NEXT_QA, RAREACT, IMAGENET, KINETICS700,
    )
}  # fmt: skip
