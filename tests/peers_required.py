"""Tests beside other implementations: skipped where these are not installed, and failing where they should be."""

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Make a failure of a skip under the marker `peers` where FLAMINGO_BLOCKS_PEERS=1 says that peers are installed."""
    report = yield
    wanted = os.environ.get("FLAMINGO_BLOCKS_PEERS") == "1" and item.get_closest_marker("peers") is not None
    if wanted and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though FLAMINGO_BLOCKS_PEERS=1 promises the packages of peers: {report.longrepr}"
    return report
