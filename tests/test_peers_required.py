"""The promise that peers are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

@pytest.mark.peers
def test_beside_a_peer():
    pytest.importorskip("no_such_peer")

def test_with_something_else():
    pytest.importorskip("no_such_package")
"""


@pytest.mark.parametrize(("promised", "found"), [("1", "1 failed, 1 skipped"), ("0", "2 skipped")])
def test_a_missing_peer_fails_where_it_is_promised(tmp_path, promised, found):
    """Only there, and only tests of peers: otherwise a broken installation would look like a passing run."""
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = peers\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.peers_required", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "FLAMINGO_BLOCKS_PEERS": promised, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found in done.stdout.splitlines()[-1], done.stdout
