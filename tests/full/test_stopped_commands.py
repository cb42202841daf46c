"""Commands as processes of their own that get Ctrl-C at several moments: what is there afterwards is whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flamingo_blocks.data.records import open_documents
from tests.cli.test_data_commands import DOCUMENTS, write
from tests.cli.test_eval_command import MODEL
from tests.cli.test_train_command import RECIPE
from tests.data.pipeline.small_crawl import prose

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
# Says when the command begins: before that Python loads torch. A shell in the background ignores Ctrl-C.
START = (
    "import signal, sys; from flamingo_blocks.cli import main; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "print('begun', file=sys.stderr, flush=True); sys.exit(main())"
)
EVALUATION = ("eval", "--tasks", "counting", "--model", "some_model.py:model", "--shots", "0,2", "--seeds", "0,1,2")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begin(*words):
    """A command that has begun."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    process = subprocess.Popen(
        [sys.executable, "-c", START, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    assert process.stderr.readline() == "begun\n"
    return process


def stop(*words, after_s=None, when=None):
    """Ctrl-C at a moment; whether the command was still at work. Its line is all that is on standard error."""
    process, end = begin(*words), time.monotonic() + 120
    if when is None:
        time.sleep(after_s)
    while when is not None and not when() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that the command has started
    printed, said = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    if process.returncode == 0:  # it was done before
        return False
    assert process.returncode == 130, said
    assert "flamingo-blocks: " in said
    assert not printed or words[0] == "train"
    return True


def finish(*words):
    process = begin(*words)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return printed


def files(folder="."):
    return {str(path) for path in Path(folder).rglob("*") if path.is_file()}


def begins_to_write(folder):
    """Whether something lies in a folder under a name that it will not keep."""
    return lambda: any(Path(folder).glob(".[!.]*"))


@pytest.mark.parametrize(
    "moment",
    [{"after_s": 0.2}, {"after_s": 2}, {"when": begins_to_write("out")}],
    ids=["begin", "later", "while it writes"],
)
def test_a_demo_leaves_no_file(moment):
    """Or those of an earlier run."""
    Path("out").mkdir()
    Path("out/results.json").write_text("earlier")
    assert stop("demo", "--quick", "--out", "out", **moment)
    assert files() == {"out/results.json"}
    assert Path("out/results.json").read_text() == "earlier"


def test_a_training_run_goes_on():
    """Every step is made once, and the run ends as it would have."""
    Path("mine.py").write_text(RECIPE)
    words, lines = ("train", "mine.py", "steps=400"), Path("run/metrics.jsonl")

    def made(number):
        return lambda: lines.exists() and lines.read_text().count("\n") >= number

    stopped = [stop(*words, after_s=0.1), *(stop(*words, when=made(number)) for number in (3, 40))]
    assert stopped == [True] * 3
    assert "400 steps done" in finish(*words)
    assert [json.loads(line)["step"] for line in lines.read_text().splitlines()] == list(range(400))
    assert not [path for path in files() if ".unfinished-" in path or path.endswith(".tmp")]


@pytest.mark.parametrize("kind", ["shards", "obelics-parquet", "jsonl"])
def test_a_conversion_of_documents_leaves_nothing(kind):
    """At whatever moment."""
    write(Path("a.jsonl"), DOCUMENTS * 20000)
    words = ("data", "convert", "a.jsonl", "--to", kind, "--out", "b")
    assert [stop(*words, after_s=0.1), stop(*words, when=begins_to_write("."))] == [True, True]
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"]


def test_a_build_goes_on():
    """And ends with the documents of one that nothing stopped."""
    Path("pages").mkdir()
    for number in range(40):
        Path(f"pages/{number}.html").write_text(f"<p>{prose(number)}<img src={number}.png><p>{number}")
    words = ("data", "build", "pages", "out", "--preset", "none", "--images", "none", "--pages-per-shard", "10")
    shards = Path("out/shards")

    def done(number):
        return lambda: len(list(shards.glob("*.tar"))) >= number

    assert [stop(*words, when=done(number)) for number in (1, 2)] == [True, True]
    assert len(list(shards.glob("*.tar"))) < 4
    finish(*words)
    finish(*words[:3], "calm", *words[4:])
    assert [one.segments for one in open_documents("out/shards")] == [
        one.segments for one in open_documents("calm/shards")
    ]
    assert not [path for path in files("out/shards") if ".unfinished-" in path]


def test_an_evaluation_goes_on():
    """And ends in the same scores."""
    Path("some_model.py").write_text(MODEL)
    words = (*EVALUATION, "--queries", "12", "--beams", "1", "--controls", "gates_closed", "--json")

    def answered():
        return any(path.stat().st_size for path in Path("out/journal").glob("*.jsonl"))

    assert stop(*words, "--out", "out", after_s=0.1)
    assert stop(*words, "--out", "out", when=answered)
    assert (
        json.loads(finish(*words, "--out", "out"))["summary"] == json.loads(finish(*words, "--out", "calm"))["summary"]
    )
    assert files("out") == {f"out/{Path(path).name}" for path in files("calm")}
