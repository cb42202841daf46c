"""Attach blocks and new-token rows to any decoder language model, and take them off again."""

from flamingo_blocks.lm.attach import Attachment, attach
from flamingo_blocks.lm.checkpoint_layers import CheckpointedLayers, checkpoint_layers
from flamingo_blocks.lm.find_layers import DecoderLayers, find_decoder_layers
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.lm.token_rows import TokenRows, attach_token_rows

__all__ = [
    "Attachment", "CheckpointedLayers", "DecoderLayers", "MediaState", "TokenRows", "attach", "attach_token_rows",
    "checkpoint_layers", "find_decoder_layers",
]  # fmt: skip
