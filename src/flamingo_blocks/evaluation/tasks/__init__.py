"""Tasks, read from their official files, and tasks of one's own."""

from flamingo_blocks.evaluation.tasks.coco import COCO, read_coco
from flamingo_blocks.evaluation.tasks.custom import read_custom_task
from flamingo_blocks.evaluation.tasks.flickr30k import FLICKR30K
from flamingo_blocks.evaluation.tasks.hateful_memes import HATEFUL_MEMES
from flamingo_blocks.evaluation.tasks.imagenet import IMAGENET
from flamingo_blocks.evaluation.tasks.ivqa import IVQA
from flamingo_blocks.evaluation.tasks.kinetics import KINETICS700
from flamingo_blocks.evaluation.tasks.media_files import missing_media
from flamingo_blocks.evaluation.tasks.next_qa import NEXT_QA
from flamingo_blocks.evaluation.tasks.rareact import RAREACT, rareact_caption
from flamingo_blocks.evaluation.tasks.registry import TASKS, describe_tasks, find_task, read_task
from flamingo_blocks.evaluation.tasks.star import STAR
from flamingo_blocks.evaluation.tasks.text_vqa import TEXTVQA
from flamingo_blocks.evaluation.tasks.vatex import VATEX
from flamingo_blocks.evaluation.tasks.video_qa import MSRVTT_QA, MSVD_QA
from flamingo_blocks.evaluation.tasks.visdial import VISDIAL
from flamingo_blocks.evaluation.tasks.vizwiz import VIZWIZ
from flamingo_blocks.evaluation.tasks.vqa import OKVQA, VQAV2
from flamingo_blocks.evaluation.tasks.youcook2 import YOUCOOK2

__all__ = [
    "COCO", "FLICKR30K", "HATEFUL_MEMES", "IMAGENET", "IVQA", "KINETICS700", "MSRVTT_QA", "MSVD_QA", "NEXT_QA", "OKVQA",
    "RAREACT", "STAR", "TASKS", "TEXTVQA", "VATEX", "VISDIAL", "VIZWIZ", "VQAV2", "YOUCOOK2", "describe_tasks",
    "find_task", "missing_media", "rareact_caption", "read_coco", "read_custom_task", "read_task",
]  # fmt: skip
