"""Clips in, frames out."""

from flamingo_blocks.data.video.clip import Clip
from flamingo_blocks.data.video.decode_clip import CLIP_REASONS, decode_clip
from flamingo_blocks.data.video.frame_times import FrameOptions, evaluation_frames, frame_times, training_frames

__all__ = [
    "CLIP_REASONS",
    "Clip",
    "FrameOptions",
    "decode_clip",
    "evaluation_frames",
    "frame_times",
    "training_frames",
]
