import time
from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.case import Contender
from benchmarks.timing import LEAST_LONG_ROUNDS, LEAST_ROUNDS, WARM_UPS, Spread, Timings, time_contenders


def recorded(*names, sleep=0.0):
    """Contenders that write down what is done with them."""
    log = []

    def make(name):
        return Contender(name, lambda: (log.append((name, "run")), time.sleep(sleep)), lambda s: log.append((name, s)))

    return [make(name) for name in names], log


def rounds(log, names):
    """The log after the warm-up, round by round, as pairs of (contender, seed)."""
    calls = list(zip(log[::2], log[1::2], strict=True))
    assert all(fresh[0] == run[0] and run[1] == "run" for fresh, run in calls), "every call gets inputs of its own"
    timed = [fresh for fresh, _ in calls[WARM_UPS * len(names) :]]
    return [timed[k : k + len(names)] for k in range(0, len(timed), len(names))]


@settings(max_examples=10)  # each example collects the garbage of the whole process
@given(names=st.lists(st.sampled_from("abcd"), min_size=1, unique=True), repeats=st.integers(1, 6))
def test_contenders_take_turns(names, repeats):
    """Each round runs every contender once, in an order that the seed tells."""
    contenders, log = recorded(*names)
    timings = time_contenders(contenders, device="cpu", repeats=repeats, seed=repeats)
    orders = [[name for name, _ in done] for done in rounds(log, names)]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert {name: len(times) for name, times in timings.seconds.items()} == dict.fromkeys(names, repeats)
    log.clear()
    time_contenders(contenders, device="cpu", repeats=repeats, seed=repeats)
    assert [[name for name, _ in done] for done in rounds(log, names)] == orders


def test_no_contender_always_follows_the_same_other():
    """What one contender leaves in the caches is found by each of the others now and then, and by none each time."""
    names = "abcd"
    contenders, log = recorded(*names)
    time_contenders(contenders, device="cpu", repeats=60)
    followed = Counter(pair for done in rounds(log, names) for pair in pairwise(name for name, _ in done))
    assert set(followed) == set(permutations(names, 2))
    assert max(followed.values()) <= 60 / 2


def test_inputs_are_new_in_every_round_and_the_same_within_one():
    """The seed given to `fresh` is one for all contenders of a round, and never the same in two, warm-up included."""
    contenders, log = recorded("a", "b")
    time_contenders(contenders, device="cpu", repeats=7, seed=3)
    assert [{seed for _, seed in done} for done in rounds(log, "ab")] == [{3 + turn} for turn in range(7)]
    assert not {seed for _, seed in log if seed != "run"} - {1, 2} - set(range(3, 10))


def test_rounds_go_on_until_the_time_is_up():
    """As many rounds run as fit into the seconds, but five at the least, or three where calls are long."""
    contenders, _ = recorded("a", sleep=10e-3)
    long, few, many = (
        len(time_contenders(contenders, device="cpu", seconds=seconds).seconds["a"]) for seconds in (0.0, 0.02, 1.0)
    )
    assert long == LEAST_LONG_ROUNDS
    assert LEAST_LONG_ROUNDS <= few <= LEAST_ROUNDS
    assert LEAST_ROUNDS <= many <= 100


def test_the_clock_runs_during_the_call_only():
    """Neither making inputs nor freeing outputs is timed."""

    class Slow:
        def __del__(self):
            time.sleep(0.02)

    contender = Contender("a", Slow, lambda seed: time.sleep(0.02))
    assert max(time_contenders([contender], device="cpu", repeats=3).seconds["a"]) < 0.01


def test_ratios_are_of_rounds_not_of_medians():
    """A round that was slow for both leaves their ratio as it is."""
    timings = Timings({"ours": [1.0, 10.0, 2.0], "peer": [2.0, 20.0, 4.0]})
    assert timings.ratio("peer", "ours") == Spread(median=2.0, q1=2.0, q3=2.0)
    assert timings.difference("peer", "ours") == 2.0
    assert Spread.of([5.0]) == Spread(5.0, 5.0, 5.0)


def test_a_spread_is_median_and_quartiles():
    """The quartiles are those of the numbers themselves, ends included."""
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(median=3.0, q1=2.0, q3=4.0)


def test_what_was_left_out_refuses_to_run():
    """A contender that is not there says so, whoever calls it by mistake."""
    absent = Contender.left_out("mllama", "transformers is not installed")
    with pytest.raises(RuntimeError, match="mllama was left out: transformers is not installed"):
        absent.run()
