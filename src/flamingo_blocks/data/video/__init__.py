"""Clips in, frames out."""

from flamingo_blocks.data.video.clip import Clip
from flamingo_blocks.data.video.clip_images import clip_images
from flamingo_blocks.data.video.decode_clip import CLIP_REASONS, decode_clip
from flamingo_blocks.data.video.encode_clip import encode_clip
from flamingo_blocks.data.video.frame_times import FrameOptions, evaluation_frames, frame_times, training_frames

__all__ = [
    "CLIP_REASONS",
    "Clip",
    "FrameOptions",
    "clip_images",
    "decode_clip",
    "encode_clip",
    "evaluation_frames",
    "frame_times",
    "training_frames",
]
