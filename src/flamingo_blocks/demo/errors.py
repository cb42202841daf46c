"""What the demo says when it cannot go on."""

from flamingo_blocks.errors import FlamingoBlocksError


class DemoError(FlamingoBlocksError, ValueError):
    """The demo cannot go on; the message says what was found, what was wanted, and what to do.

    Example:
        >>> from pathlib import Path
        >>> from flamingo_blocks.demo import load_demo_model
        >>> try:
        ...     load_demo_model(Path("nowhere"))
        ... except DemoError as error:
        ...     print(str(error).partition(";")[0])
        nowhere holds no vocabulary.json, so it is no model of the demo
    """
