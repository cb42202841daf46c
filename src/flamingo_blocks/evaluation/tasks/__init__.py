"""Tasks, read from their official files."""

from flamingo_blocks.evaluation.tasks.coco import COCO, read_coco
from flamingo_blocks.evaluation.tasks.flickr30k import FLICKR30K
from flamingo_blocks.evaluation.tasks.hateful_memes import HATEFUL_MEMES
from flamingo_blocks.evaluation.tasks.media_files import missing_media
from flamingo_blocks.evaluation.tasks.registry import TASKS, describe_tasks, find_task, read_task
from flamingo_blocks.evaluation.tasks.text_vqa import TEXTVQA
from flamingo_blocks.evaluation.tasks.vizwiz import VIZWIZ
from flamingo_blocks.evaluation.tasks.vqa import OKVQA, VQAV2

__all__ = [
    "COCO",
    "FLICKR30K",
    "HATEFUL_MEMES",
    "OKVQA",
    "TASKS",
    "TEXTVQA",
    "VIZWIZ",
    "VQAV2",
    "describe_tasks",
    "find_task",
    "missing_media",
    "read_coco",
    "read_task",
]
