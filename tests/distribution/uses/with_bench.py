"""The benchmarks can be listed, in a clone."""

import subprocess
import sys
from pathlib import Path

import pydantic  # noqa: F401
import tqdm  # noqa: F401

root = Path(__file__).parents[3]
subprocess.run((sys.executable, "-m", "benchmarks", "--list"), cwd=root, check=True, stdout=subprocess.DEVNULL)
