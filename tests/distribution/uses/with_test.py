"""A test runs in a clone, by what is installed, and what other tests compare with can be imported."""

import subprocess
import sys
from pathlib import Path

import accelerate  # noqa: F401
import nltk  # noqa: F401
import peft  # noqa: F401
import sklearn  # noqa: F401
import webdataset  # noqa: F401

root = Path(__file__).parents[3]
name = "tests/test_public_api.py::test_the_package_says_its_version_and_ships_its_types"
subprocess.run((sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name), cwd=root, check=True)
