"""open_flamingo: its checkpoints of versions 1 and 2, and live state dicts."""

from flamingo_blocks.interop.families._lang_encoder import LangEncoderFamily
from flamingo_blocks.interop.families._templates import OPEN_FLAMINGO

FAMILY = LangEncoderFamily("open_flamingo", OPEN_FLAMINGO)
