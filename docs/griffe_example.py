"""Show the `Example:` section of a docstring as code on the reference pages."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """The parser knows `Examples:` only, and would print the lines of an `Example:` as quoted prose."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section before the docstring is parsed."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
