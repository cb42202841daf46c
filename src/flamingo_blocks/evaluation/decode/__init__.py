"""Decoding for evaluation: prompts run once for many queries, images encoded once, candidates scored in one pass."""

from flamingo_blocks.evaluation.decode.answers import CandidateScores, NotFiniteError, Written
from flamingo_blocks.evaluation.decode.cut_frames import cut_frames
from flamingo_blocks.evaluation.decode.decoder import Decoder
from flamingo_blocks.evaluation.decode.media_pool import MediaPool, UnreadableMediaError
from flamingo_blocks.evaluation.decode.shared_prompt import SharedPrompt

__all__ = [
    "CandidateScores", "Decoder", "MediaPool", "NotFiniteError", "SharedPrompt", "UnreadableMediaError", "Written",
    "cut_frames",
]  # fmt: skip
