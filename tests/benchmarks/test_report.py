from dataclasses import replace

import pytest

from benchmarks.case import Bar
from benchmarks.report import bar_told, bytes_told, losses, seconds_told, terminal
from benchmarks.runner import judge
from benchmarks.timing import Timings
from tests.benchmarks.builders import bar, case, contender, failed, missed, run


def test_losses_come_first():
    """Cases without numbers, then losses, stand above every time."""
    text = terminal(run(case("block/won"), case("block/lost", ours=3e-3, peer=2e-3), failed("block/broken")))
    places = [text.index(part) for part in ("WRONG block/broken", "  block/lost: open_flamingo", "block/won")]
    assert places == sorted(places)
    assert "takes 0.667x our time in a round (median 2 ms, ours 3 ms)" in text


def test_the_worst_loss_comes_first():
    """Losses are sorted by how far they fall short, bars and peers alike."""
    missed = bar(value=1.0, ratio=4.0, passed=False)
    lost = losses(run(case("block/a", ours=3e-3, peer=2e-3), case("block/b", bars=[missed])))
    assert [loss.case for loss in lost] == ["block/b", "block/a"]
    assert "open_flamingo is 1x ours in time, wanted at least 4x: missed, 75 % short" in lost[0].what


def test_more_memory_than_a_peer_is_a_loss_too():
    """A peer that saves less for backward, or has a lower peak beyond its noise, is told."""
    found = losses(run(case("block/a", saved_bytes=512), case("block/b", peak_bytes=4000)))
    assert [(loss.case, loss.what) for loss in found] == [
        ("block/a", "open_flamingo saves less for backward: 512 B to our 1 KiB")
    ]
    mine = contender("flamingo_blocks", peak_bytes=2**30)
    theirs = contender("open_flamingo", ratio=2.0, peak_bytes=2**29)
    (loss,) = losses(run(replace(case(), contenders=[mine, theirs])))
    assert loss.what == "open_flamingo has a lower peak: 512 MiB to our 1 GiB"


def test_a_missed_bar_comes_with_a_profile():
    """Below the losses stands where the time of ours goes in the cases that missed a bar, and in no others."""
    text = terminal(run(case("block/won"), missed()))
    head = "Where the time of flamingo_blocks goes in decode/slow:"
    assert text.index("decode/slow: the bar") < text.index(head) < text.index("block/won")
    assert " 75.0 %      4 a call  aten::mm" in text
    assert text.count("Where the time") == 1


def test_a_limit_that_is_faster_is_no_loss():
    """What only shows how fast it could be, such as the projections alone, is no peer."""
    mine, limit = contender("flamingo_blocks"), contender("projections", ratio=0.8)
    assert losses(run(replace(case(), contenders=[mine, limit]))) == []


def test_a_busy_machine_is_said():
    """Times of a machine that did something else are called hints, above everything."""
    assert "THE MACHINE WAS BUSY" in terminal(run(load=1.5)).splitlines()[0]
    assert "BUSY" not in terminal(run(load=0.5))


def test_a_win_within_the_noise_is_told_with_its_doubt():
    """A peer ahead by less than the quartiles is listed, and marked."""
    (loss,) = losses(run(case(ours=1e-3, peer=0.99e-3)))
    assert "in a round, within the noise of the rounds (median" in loss.what


def test_what_was_left_out_is_named_in_the_table():
    """A peer that is not installed has a row that says why."""
    assert "mllama           not run: no such package" in terminal(run())


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(2.5, "2.5 s"), (0.01234, "12.3 ms"), (4.2e-5, "42 us"), (0.9999, "1000 ms"), (1e-8, "0.01 us")],
)
def test_seconds_have_three_digits(seconds, told):
    """A time is written with three digits in a unit that fits."""
    assert seconds_told(seconds) == told


@pytest.mark.parametrize(("number", "told"), [(None, "-"), (0, "0 B"), (1536, "1.5 KiB"), (3 * 2**30, "3 GiB")])
def test_bytes_have_three_digits(number, told):
    """A number of bytes is written likewise, and a dash stands for one that was not taken."""
    assert bytes_told(number) == told


def judged(wanted, *, ours=1.0, theirs=2.0, saved=(100, 200), least=0.5):
    """A bar held against two contenders."""
    timings = Timings({"flamingo_blocks": [ours] * 3, "open_flamingo": [theirs] * 3})
    results = [
        contender("flamingo_blocks", median_s=ours, saved_bytes=saved[0]),
        contender("open_flamingo", median_s=theirs, ratio=theirs / ours, saved_bytes=saved[1]),
    ]
    return judge(wanted, results, timings, least)


@pytest.mark.parametrize(
    ("wanted", "value", "passed"),
    [
        (Bar("", "open_flamingo", 2.0, "faster_by"), 2.0, True),
        (Bar("", "open_flamingo", 2.1, "faster_by"), 2.0, False),
        (Bar("", "open_flamingo", 0.5, "at_most"), 0.5, True),
        (Bar("", "open_flamingo", 0.4, "at_most"), 0.5, False),
        (Bar("", "open_flamingo", 0.5, "at_most", "saved_bytes"), 0.5, True),
        (Bar("", "open_flamingo", 0.4, "at_most", "saved_bytes"), 0.5, False),
        (Bar("", "limit", 2.0, "at_most"), 2.0, True),
        (Bar("", "limit", 1.9, "at_most"), 2.0, False),
        (Bar("", "mllama", 1.0, "at_most"), None, None),
    ],
)
def test_a_bar_is_judged_in_its_own_terms(wanted, value, passed):
    """Times, bytes and the limit are held against the ratio; who is not there judges nothing."""
    result = judged(wanted)
    assert (result.value, result.passed) == (value, passed)


def test_slack_passes_a_bar_whatever_the_ratio():
    """Below a millisecond a bar may allow some microseconds more."""
    slow = Bar("", "open_flamingo", 1.1, "at_most", slack=100e-6)
    assert judged(slow, ours=150e-6, theirs=60e-6).passed
    assert not judged(slow, ours=250e-6, theirs=60e-6).passed


def test_a_bar_with_slack_says_both_that_it_allows():
    """The line names the ratio and what is allowed beside it, and which of the two was reached."""
    import_time = Bar("nearly as fast", "open_flamingo", 1.0, "at_most", slack=0.1)
    told = bar_told(judged(import_time, ours=2.05, theirs=2.0))
    assert told.endswith("open_flamingo in time, wanted at most 1x or 100 ms more: reached by the second")
    assert bar_told(judged(import_time, ours=1.9, theirs=2.0)).endswith("or 100 ms more: reached")


def test_nothing_beside_nothing_is_level():
    """Two contenders that save nothing are equal; something beside nothing has no ratio and is missed."""
    lean = Bar("", "open_flamingo", 1.0, "at_most", "saved_bytes")
    assert judged(lean, saved=(0, 0)).passed
    assert judged(lean, saved=(8, 0)).passed is False
