from dataclasses import replace

from benchmarks.compare import compare
from benchmarks.results import Limits
from tests.benchmarks.builders import case, run


def line_of(text, name):
    return next(line.strip() for line in text.splitlines() if name in line)


def test_only_what_the_quartiles_tell_apart_is_called_faster_or_slower():
    """A change within the quartiles is marked as none, one beyond them by its direction; the ratio is new / old."""
    old = run(case("block/a", ours=1e-3), case("block/b", ours=1e-3), case("block/c", ours=1e-3))
    new = run(case("block/a", ours=1.02e-3), case("block/b", ours=0.5e-3), case("block/c", ours=2e-3))
    text = compare(new, old)
    assert line_of(text, "block/a").startswith("1.020x  =")
    assert line_of(text, "block/b").startswith("0.500x  faster")
    assert line_of(text, "block/c").startswith("2.000x  slower")
    assert "WARNING" not in text


def test_cases_of_one_run_only_are_named():
    """A case that is new, or gone, is said to be so."""
    text = compare(run(case("block/new")), run(case("block/old")))
    assert line_of(text, "block/new") == "only now:  block/new"
    assert line_of(text, "block/old") == "only then: block/old"


def test_other_machines_are_warned_of_and_scaled_by_their_limits():
    """Twice the time on a machine with half the limits is no change, ours or a control's."""
    old = run(case("block/a", ours=1e-3))
    machine = replace(old.machine, cpu="Another CPU")
    limits = Limits(old.limits.matmul_flops_per_s / 2, old.limits.copy_bytes_per_s / 2)
    text = compare(run(case("block/a", ours=2e-3, peer=4e-3), machine=machine, limits=limits), old)
    assert "WARNING: other machines" in text
    assert line_of(text, "block/a").startswith("1.000x  =")
    assert "the other contenders, whose code is the same, take 1.000x" in text


def test_other_settings_are_warned_of():
    """Threads and dtypes that differ are said before any ratio."""
    text = compare(run(threads=8), run(threads=2, dtype="bfloat16"))
    assert text.index("WARNING: threads was 2, and is 8") < text.index("new / old")
    assert "WARNING: dtype was bfloat16, and is float32" in text


def test_no_verdict_on_other_settings():
    """Another number of threads is no change of the code, whatever it does to the time."""
    text = compare(run(case("block/a", ours=1e-3), threads=1), run(case("block/a", ours=3e-3), threads=2))
    assert line_of(text, "block/a").startswith("0.333x  ?")


def test_suites_that_were_not_run_are_counted():
    """A run of one suite beside a run of all: the rest is one line."""
    old = run(case("block/a"), case("loss/b"), case("loss/c"))
    text = compare(run(case("block/a")), old)
    assert text.endswith("only then: 2 cases of suites that were not run now")
    assert "loss/b" not in text


def test_the_others_show_the_drift_of_the_machine():
    """Contenders whose code is the same are told as a control."""
    text = compare(run(case("block/a", peer=3e-3)), run(case("block/a", peer=2e-3)))
    assert text.index("whose code is the same, take 1.500x") < text.index("new / old")
