"""What `auto` prefers is what the committed runs say."""

import pytest

from benchmarks.page import published
from benchmarks.results import RESULTS, read
from flamingo_blocks.ops.attention.auto_order import PREFERENCES

LEVEL = 1.1  # never slower than another by more than ten percent, as at every size of the suite


@pytest.mark.parametrize("device", PREFERENCES)
def test_no_backend_is_faster_than_the_choice_of_auto(device):
    """In each case of the run behind an order, no backend beats `auto` beyond the quartiles of the rounds and ten
    percent; where there is no run it is said.
    """
    preference = PREFERENCES[device]
    if preference.measured == "unmeasured":
        assert not [run for run in published() if run.device == device], "a result file is there: name it"
        return
    cases = [case for case in read(RESULTS / preference.measured).cases if "/backends/" in case.name]
    assert cases
    for case in cases:
        faster = [one.name for one in case.contenders if one.ratio_q3 * LEVEL < 1]
        assert not faster, f"{case.name}: {faster}"
