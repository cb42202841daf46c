"""What importing the front does."""

import importlib
import sys

import pytest

from flamingo_blocks.errors import MissingDependencyError


def test_the_front_says_what_it_needs(monkeypatch):
    """Without transformers the import names the package and the extra that brings it."""
    monkeypatch.delitem(sys.modules, "flamingo_blocks.hf", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"flamingo_blocks.hf needs .*'transformers'.*\[hf\]"):
        importlib.import_module("flamingo_blocks.hf")
