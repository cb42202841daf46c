"""What the demo says when it cannot go on."""

from flamingo_blocks.errors import FlamingoBlocksError


class DemoError(FlamingoBlocksError, ValueError):
    """The demo cannot go on; the message says what was found, what was wanted, and what to do."""
