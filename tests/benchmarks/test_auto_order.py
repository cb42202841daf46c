"""What `auto` prefers is what the committed runs say."""

import pytest

from benchmarks.page import published
from benchmarks.results import RESULTS, read
from flamingo_blocks.ops.attention.auto_order import PREFERENCES

LEVEL = 1.1  # what two calls of one function may differ by, run after run


def sides(run):
    """Cases in which backends stand side by side, with the median of each by its name."""
    cases = (case for case in run.cases if case.name.startswith("attention/backends/"))
    return {case.name: {one.name: one.median_s for one in case.contenders} for case in cases}


@pytest.mark.parametrize("device", PREFERENCES)
def test_the_first_that_can_run_is_the_fastest(device):
    """In each case of the run behind an order, `auto`'s choice is as fast as any backend; without a run it is said."""
    preference = PREFERENCES[device]
    if preference.measured == "unmeasured":
        assert not [run for run in published() if run.device == device], "a result file is there: name it"
        return
    measured = sides(read(RESULTS / preference.measured))
    assert measured
    for name, seconds in measured.items():
        chosen = next(backend for backend in preference.order if backend in seconds)
        assert seconds[chosen] <= LEVEL * min(seconds.values()), (name, seconds)
