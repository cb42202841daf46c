"""One JSON object a step: whatever a kill leaves of the file, a run that goes on writes each step once."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.training.watching.step_lines import StepLines, read_metrics

numbers = st.floats(allow_nan=False) | st.integers(-(2**40), 2**40) | st.booleans()


@given(data=st.data(), steps=st.integers(1, 12), first=st.integers(0, 3))
def test_a_run_killed_at_any_byte_and_resumed_leaves_the_lines_of_one_that_was_not(
    data, steps, first, tmp_path_factory
):
    """Lines of later steps and a torn last line are cut off, nothing stands twice, and all that was cut is kept."""
    folder = tmp_path_factory.mktemp("run")
    path, whole = folder / "metrics.jsonl", [{"step": first + step, "loss": step / 7} for step in range(steps)]
    lines = StepLines(path)
    for line in whole:
        lines.append(line)
    written = path.read_bytes()
    assert written.count(b"\n") == steps
    whole_but_for_its_end = [index for index, byte in enumerate(written) if byte == ord("\n")]
    left = data.draw(st.integers(0, len(written)) | st.sampled_from(whole_but_for_its_end), label="bytes left")
    path.write_bytes(written[:left])
    resumed = data.draw(st.integers(0, min(written[:left].count(b"\n"), steps - 1)), label="resumed at")
    lines = StepLines(path)
    for line in whole[resumed:]:
        lines.append(line)
    assert path.read_bytes() == written
    assert read_metrics(path) == whole
    cut = folder / "metrics.cut.jsonl"
    kept = b"".join(written.splitlines(keepends=True)[:resumed])
    assert (cut.read_bytes().rstrip(b"\n") if cut.exists() else b"") == written[len(kept) : left].rstrip(b"\n")


def test_a_line_that_does_not_fit_on_the_disk_goes_before_the_next(tmp_path, monkeypatch):
    """It is told, and the file is whole again once there is room."""
    path = tmp_path / "metrics.jsonl"
    lines = StepLines(path)
    lines.append({"step": 0})
    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            return self.file.write(data[:5])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *args, **options: Full(opened(self, *args, **options)))
        with pytest.raises(OSError, match="No space left"):
            lines.append({"step": 1})
    lines.append({"step": 2})
    assert [line["step"] for line in read_metrics(path)] == [0, 2]


@given(
    losses=st.dictionaries(st.text() | st.just("texts"), numbers | st.sampled_from((math.inf, -math.inf))),
    texts=st.dictionaries(st.text(), st.text() | st.sampled_from(("NaN", "Infinity", "\ud800"))),
)
def test_what_is_written_is_read(losses, texts, tmp_path_factory):
    """Numbers that are not finite come back as numbers, and texts as texts, every line being plain JSON."""
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    StepLines(path).append({"step": 0, "losses": losses, "texts": texts})

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(path.read_bytes(), parse_constant=refuse)
    assert read_metrics(path) == [{"step": 0, "losses": losses, "texts": texts}]


def test_nan_comes_back():
    """It is a number, and equal to none."""
    text = '{"step": 0, "grad_norm": "NaN"}\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", lambda path: text.encode())
        assert math.isnan(read_metrics("metrics.jsonl")[0]["grad_norm"])


def test_lines_of_a_process_that_is_killed_are_whole(tmp_path):
    """A process that ends at once, with nothing closed or flushed, has written each step."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from flamingo_blocks.training.watching.step_lines import StepLines\n"
        "lines = StepLines(Path(sys.argv[1]))\n"
        "for step in range(50): lines.append({'step': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode != 0
    assert [line["step"] for line in read_metrics(path)] == list(range(50))


def test_a_line_that_is_damaged_is_told(tmp_path):
    """The error names the line; a torn last one is none."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2 of .* is b'{\"st.*wanted a JSON object with a step"):
        read_metrics(path)
    path.write_text('{"step": 0}\n{"st')
    assert read_metrics(path) == [{"step": 0}]


def test_a_line_that_lacks_its_end_is_torn_whatever_it_says(tmp_path):
    """A run that goes on behind it does not write into the same line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}')
    assert read_metrics(path) == [{"step": 0}]
    StepLines(path).append({"step": 2})
    assert read_metrics(path) == [{"step": 0}, {"step": 2}]
