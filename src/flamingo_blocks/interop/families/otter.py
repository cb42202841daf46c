"""Otter: open_flamingo's model under names of its own, with frame embeddings for clips."""

from flamingo_blocks.interop.families._lang_encoder import LangEncoderFamily
from flamingo_blocks.interop.families._templates import BLOCK, RESAMPLER, RESAMPLER_LAYER, Spelling, renamed

FAMILY = LangEncoderFamily(
    "otter",
    Spelling(
        block=renamed(BLOCK, {"ff.": "feed_forward."}),
        layer=renamed(RESAMPLER_LAYER, {"0.": "", "1.": "feed_forward."}),
        resampler=RESAMPLER,
    ),
    twice=False,
)
