"""Make a mistake in a copy of the sources and run the test that is to catch it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_mutated(path: str, right: str, wrong: str, test: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """Copy the sources to a folder, put `wrong` for `right` in a file, and run a test there, without shrinking."""
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    source = (folder / path).read_text()
    assert source.count(right) == 1, f"{path} has changed: say anew how to make this mistake"
    (folder / path).write_text(source.replace(right, wrong))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "HYPOTHESIS_PROFILE": "mutation"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
