"""Workers start quickly in tests."""

import sys

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_main_module_in_workers():
    """A worker loads the main module again, which here is pytest and of no use to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["__main__"], "__spec__", None)
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)
        yield
