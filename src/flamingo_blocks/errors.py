"""The errors that are ours; every other slip of a caller is a `ValueError` that names the argument."""

from functools import cached_property
from typing import ClassVar


class FlamingoBlocksError(Exception):
    """Base of the errors that this library defines, so that one `except` can catch them all.

    An error of a family that has a page names it in a note, which a traceback prints below the message; the message
    itself, `str(error)`, stays as it is.

    Attributes:
        page: Name of the page on this family of errors, which `flamingo-blocks explain` prints; None where there is
            none.
    """

    page: ClassVar[str | None] = None

    # Made when somebody looks, and not in an `__init__`, which torch.compile cannot trace.
    @cached_property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # once made, it can be written
        if self.page is None:
            return []
        return [f"More: flamingo-blocks explain {self.page} (page errors/{self.page} of the documentation)"]


class ShapeError(FlamingoBlocksError, ValueError):
    """A tensor has another shape or dtype than is wanted, or two parts are not of one width; the message has both."""

    page = "shapes"


class MediaMaskError(FlamingoBlocksError, ValueError):
    """Tags, items, pads, documents or directions do not fit each other, so which text sees which media is not told."""

    page = "masks"


class MissingDependencyError(FlamingoBlocksError, ImportError):
    """An optional package is needed and not installed; the message names the class, the package and the extra."""

    page = "extras"


class BackendRefusedError(FlamingoBlocksError, ValueError):
    """The asked attention backend cannot run this call; the message lists every backend with its reason."""

    page = "backends"


class LayersNotFoundError(FlamingoBlocksError, ValueError):
    """The decoder layers of a language model could not be found; the message lists the candidates."""

    page = "layers"


class CheckpointError(FlamingoBlocksError, ValueError):
    """A saved model does not fit what is being loaded; the message names file, key and both values."""

    page = "checkpoints"


class ConformanceError(FlamingoBlocksError, AssertionError):
    """A tower or language model fails a check of `flamingo_blocks.testing`; the message lists every finding."""


class RecipeError(FlamingoBlocksError, ValueError):
    """A recipe of a training run cannot be found, or a setting does not fit it; the message names what it takes."""


class EvaluationError(FlamingoBlocksError, ValueError):
    """Files of a task or settings of an evaluation do not fit; the message names file, row, key and what was there."""
