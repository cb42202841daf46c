"""What is installed beside the library, by its extras."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

_OF_DEVELOPERS = ("bench", "dev", "docs", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")


def installed_extras() -> dict[str, dict[str, str | None]]:
    """The packages of each extra that users install, with the version that is there, None where none is."""
    return packages_of_extras(requires("flamingo-blocks") or ())


def packages_of_extras(requirements: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The packages of each extra among requirements.

    Args:
        requirements: As the metadata of a package has them.

    Example:
        >>> packages_of_extras(["torch>=2.10", 'no-such-package>=1; extra == "hf"', 'pytest; extra == "test"'])
        {'hf': {'no-such-package': None}}
    """
    found: dict[str, dict[str, str | None]] = {}
    for requirement in requirements:
        extra, name = _EXTRA.search(requirement), _NAME.match(requirement)
        if extra and name and extra[1] not in _OF_DEVELOPERS:
            found.setdefault(extra[1], {})[name[0]] = _version(name[0])
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
