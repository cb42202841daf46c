"""A law is tested, from a clone, by what is installed."""

import sys
from pathlib import Path

import accelerate  # noqa: F401
import nltk  # noqa: F401
import peft  # noqa: F401
import pytest
import sklearn  # noqa: F401
import webdataset  # noqa: F401

root = Path(__file__).parents[3]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(root), str(root / "tests/test_import.py")]))
