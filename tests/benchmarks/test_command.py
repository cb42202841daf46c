"""The suite as a command, on small cases of its own."""

import contextlib
import io
import json

import pytest

from benchmarks.__main__ import main
from benchmarks.results import read
from tests.benchmarks import tiny_cases


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A run of cases that pass: exit code, output, folder."""
    return ran(tmp_path_factory.mktemp("right"), tiny_cases.right_cases)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A run with a crashing case, a wrong one and a right one, in this order."""
    return ran(tmp_path_factory.mktemp("troubled"), tiny_cases.troubled_cases, "--no-peaks")


def ran(folder, provider, *options):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["--repeats", "3", "--threads", "1", "--out", str(folder), *options], provider=provider)
    return code, printed.getvalue(), folder


def result_of(folder):
    (path,) = folder.rglob("*.json")
    return read(path)


def test_a_run_prints_writes_and_draws(right):
    """The table, the file and the plots are there, and the file holds every case with all its numbers."""
    code, printed, folder = right
    assert code == 0
    assert "attention/forward/items4" in printed
    result = result_of(folder)
    assert [case.name for case in result.cases] == [f"attention/forward/items{items}" for items in (1, 2, 4)]
    for case in result.cases:
        assert [one.name for one in case.contenders] == ["flamingo_blocks", "open_flamingo"]
        for one in case.contenders:
            assert one.repeats == 3
            assert 0 < one.q1_s <= one.median_s <= one.q3_s
            assert one.saved_bytes == 4 * tiny_cases.SIZE**2
            assert one.peak_bytes is not None
            assert one.limit_fraction is not None
    kinds = {path.stem.rpartition("--")[2] for path in (folder / "plots").glob("*.svg")}
    assert {"time", "saved", "roofline"} <= kinds


def test_a_missing_peer_is_named_and_no_crash(right):
    """A contender that is not installed stands in the table and in the file with its reason."""
    _, printed, folder = right
    assert "not run: transformers is not installed" in printed
    assert all(case.missing == {"idefics": "transformers is not installed"} for case in result_of(folder).cases)


def test_bars_are_judged(right):
    """Each bar of a case is reached, missed, or not judged, and a missed one stands with the losses."""
    _, printed, folder = right
    bars = {bar.what: bar.passed for bar in result_of(folder).cases[0].bars}
    assert bars == {
        "not slower": True,
        "a thousand times faster": False,
        "saves no more": True,
        "faster than what is not here": None,
    }
    assert printed.index("a thousand times faster") < printed.index("case ") < printed.index("saves no more")


def test_a_bar_that_was_missed_is_profiled(right):
    """The file holds where the time of ours goes in the case that missed a bar of time, and in no other."""
    _, _, folder = right
    missed, *others = result_of(folder).cases
    assert {"aten::mm", "aten::mul"} & {one.name for one in missed.profile}
    assert 0.5 < sum(one.share for one in missed.profile) <= 1
    assert [case.profile for case in others] == [[], []]


def test_a_wrong_case_has_no_time_and_the_run_fails(troubled):
    """A case whose contenders disagree is called wrong, nothing of it is timed, and the exit code is 1."""
    code, printed, folder = troubled
    assert code == 1
    assert "WRONG attention/wrong: AssertionError: open_flamingo disagrees in place.py" in printed
    wrong = next(case for case in result_of(folder).cases if case.name == "attention/wrong")
    assert (wrong.status, wrong.contenders, wrong.bars) == ("wrong", [], [])
    assert printed.count("attention/wrong") == 1


def test_half_precision_is_checked_in_float32_first(tmp_path):
    """A case that is wrong by less than rounding in bfloat16 is found all the same: its float32 form is checked too."""
    code, printed, _ = ran(tmp_path, tiny_cases.nearly_right_cases, "--no-peaks", "--dtype", "bfloat16")
    assert code == 1
    assert "WRONG attention/nearly: AssertionError: open_flamingo disagrees" in printed


def test_a_crash_does_not_lose_the_other_cases(troubled):
    """A case that crashes is named with its words, and those after it are measured."""
    _, printed, folder = troubled
    assert "FAILED attention/crashing: RuntimeError: no such luck in place.py" in printed
    assert [case.status for case in result_of(folder).cases] == ["failed", "wrong", "ok"]


def test_a_result_file_names_nobody(troubled):
    """No absolute path stands in a result file."""
    _, _, folder = troubled
    (path,) = folder.rglob("*.json")
    texts = []
    json.loads(
        path.read_text(), object_pairs_hook=lambda pairs: texts.extend(v for _, v in pairs if isinstance(v, str))
    )
    assert texts
    assert not [text for text in texts if "secret" in text or text.startswith("/")]


def test_a_run_can_be_held_against_an_older_one(right, tmp_path):
    """`--compare` reads a result file and prints a ratio a case."""
    _, _, folder = right
    (old,) = folder.rglob("*.json")
    options = ("--no-peaks", "--case", "forward/items2", "--compare", str(old))
    _, printed, _ = ran(tmp_path, tiny_cases.right_cases, *options)
    assert "only then: attention/forward/items4" in printed
    assert "new / old" in printed
    (path,) = tmp_path.rglob("*.json")
    assert path.name.startswith("forward-items2--")


def test_the_list_shows_cases_and_measures_nothing(capsys, tmp_path):
    """`--list` names the cases with their sizes, those of `--full` only when asked."""
    assert main(["--list", "--out", str(tmp_path)], provider=tiny_cases.right_cases) == 0
    assert "large" not in capsys.readouterr().out
    assert main(["--list", "--full", "--out", str(tmp_path)], provider=tiny_cases.right_cases) == 0
    assert "attention/large  float32  text=32 dim=32 items=1  (--full)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_profile_shows_the_operators_of_ours(capsys):
    """`--profile` prints where the time of one call goes."""
    assert main(["--profile", "--case", "items1", "--threads", "1"], provider=tiny_cases.right_cases) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("attention/forward/items1, flamingo_blocks\n")
    assert "a call  aten::mm\n" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "blocks"], "unknown suite blocks; there are attention, block, resampler"),
        (["--device", "tpu"], "unknown device 'tpu'; there are cpu, cuda"),
        (["--dtype", "int8"], "unknown dtype 'int8'; there are float32"),
        (["--threads", "0"], "--threads must be above 0, got 0"),
        (["--repeats", "-1"], "--repeats must be above 0, got -1"),
    ],
)
def test_a_slip_on_the_command_line_is_told_before_any_work(options, message, capsys):
    """An argument that cannot be meant ends with exit code 2 and the values that can."""
    with pytest.raises(SystemExit, match="2"):
        main(options, provider=tiny_cases.right_cases)
    assert message in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told(capsys):
    """`--device cuda` without one ends in a sentence."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="2"):
        main(["--device", "cuda"], provider=tiny_cases.right_cases)
    assert "torch sees no CUDA device here" in capsys.readouterr().err


def test_a_comparison_with_nothing_is_told_before_any_work(capsys, tmp_path):
    """A result file that is missing or broken ends the program before the first case."""
    assert main(["--compare", str(tmp_path / "none.json")], provider=tiny_cases.right_cases) == 2
    (tmp_path / "broken.json").write_text("{}")
    assert main(["--compare", str(tmp_path / "broken.json")], provider=tiny_cases.right_cases) == 2
    told = capsys.readouterr().err
    assert "no result file" in told
    assert "broken.json is no result file of this version: schema_version: Field required" in told


def test_a_choice_without_cases_is_told(capsys):
    """Nothing to measure is a slip, not a success."""
    assert main(["--suite", "decode"], provider=tiny_cases.right_cases) == 2
    assert "no case fits" in capsys.readouterr().err
