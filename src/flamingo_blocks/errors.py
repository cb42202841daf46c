"""The errors that are ours; every other slip of a caller is a `ValueError` that names the argument."""


class FlamingoBlocksError(Exception):
    """Base of the errors that this library defines, so that one `except` can catch them all."""


class MissingDependencyError(FlamingoBlocksError, ImportError):
    """An optional package is needed and not installed; the message names the class, the package and the extra."""


class BackendRefusedError(FlamingoBlocksError, ValueError):
    """The asked attention backend cannot run this call; the message lists every backend with its reason."""


class LayersNotFoundError(FlamingoBlocksError, ValueError):
    """The decoder layers of a language model could not be found; the message lists the candidates."""


class CheckpointError(FlamingoBlocksError, ValueError):
    """A saved model does not fit what is being loaded; the message names file, key and both values."""


class ConformanceError(FlamingoBlocksError, AssertionError):
    """A tower or language model fails a check of `flamingo_blocks.testing`; the message lists every finding."""


class RecipeError(FlamingoBlocksError, ValueError):
    """A recipe of a training run cannot be found, or a setting does not fit it; the message names what it takes."""


class EvaluationError(FlamingoBlocksError, ValueError):
    """Files of a task or settings of an evaluation do not fit; the message names file, row, key and what was there."""
