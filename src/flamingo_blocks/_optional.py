"""Optional packages are loaded where they are used, with an error that says what to install."""

import importlib
from types import ModuleType

from flamingo_blocks.errors import MissingDependencyError


def require(package: str, *, used_by: str, extra: str) -> ModuleType:
    """Import an optional package or say which extra brings it.

    Args:
        package: Dotted name to import, such as `"transformers"`.
        used_by: Public class or function that needs it, named in the error.
        extra: Extra of `flamingo_blocks` that installs it.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: If the package is not installed.

    Example:
        >>> require("math", used_by="this example", extra="dev").sqrt(4.0)
        2.0
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise
        raise MissingDependencyError(
            f"{used_by} needs the package {package!r}, which is not installed; "
            f"install the extra {extra!r} of flamingo_blocks, from a clone: pip install '.[{extra}]'"
        ) from error
