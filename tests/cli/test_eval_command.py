"""`flamingo-blocks eval`, called as the shell calls it."""

import json
import os
import subprocess
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flamingo_blocks.cli import evaluate, main
from flamingo_blocks.cli._named_tasks import OF_SUITE, check_shots, read_named_tasks
from flamingo_blocks.evaluation import EvalConfig
from flamingo_blocks.evaluation.controls import DEFAULT_CONTROLS
from flamingo_blocks.evaluation.reports import read_predictions, read_results
from flamingo_blocks.evaluation.tasks import TASKS
from tests.evaluation.tasks.official_files import WRITERS
from tests.evaluation.tasks.official_video_files import VIDEO_WRITERS

ROOT = Path(__file__).parents[2]
MODEL = """
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model


def model():
    return make_subject(lm=make_language_model("llama", max_position_embeddings=512))


def nothing():
    return 3


def half():
    return model()[0], 3


def kind():
    from tests.evaluation.answering.says import Says

    return Says


def _own():
    return 3
"""
SETTINGS = ("--shots", "0,2", "--seeds", "0", "--queries", "4", "--beams", "1", "--controls", "gates_closed")


@pytest.fixture
def model(tmp_path):
    """A file with a function that makes a model."""
    file = tmp_path / "some_model.py"
    file.write_text(MODEL)
    return f"{file}:model"


def test_tasks_are_listed_with_their_files(capsys):
    """Every task of the paper is listed, and the suite that needs no files."""
    assert main(["eval", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TASKS)
    assert "binding, matching, operator_induction, counting" in printed


def test_a_model_is_asked_and_scored_again(model, tmp_path, capsys):
    """Official files and the synthetic suite in one run; scoring the predictions again writes the same files."""
    WRITERS["vqav2"](tmp_path / "data" / "vqav2")
    shown = warnings.showwarning
    out, tasks = tmp_path / "out", ["--tasks", "vqav2,counting", "--data", str(tmp_path / "data")]
    assert main(["eval", *tasks, "--model", model, "--out", str(out), *SETTINGS]) == 0
    printed = capsys.readouterr()
    assert "vqav2" in printed.out
    assert "gates_closed" in printed.out
    assert str(out / "report.html") in printed.out
    assert not printed.err
    assert warnings.showwarning is shown
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert files.keys() == {"predictions.jsonl", "report.html", "report.md", "results.json", "run.json"}
    assert main(["eval", *tasks, "--rescore", str(out), "--queries", "4"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files


def test_under_torchrun_each_process_asks_its_share(model, tmp_path):
    """Two processes write what one writes."""
    command = ["eval", "--tasks", "counting", "--model", model, *SETTINGS]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*run, "flamingo_blocks.cli", *command, "--out", str(tmp_path / "two")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (read_predictions(tmp_path / name / "predictions.jsonl") for name in ("one", "two"))
    assert one == two
    cells = [read_results(tmp_path / name / "results.json").cells for name in ("one", "two")]
    assert [cell.scores for cell in cells[0]] == [cell.scores for cell in cells[1]]


def test_a_task_of_ones_own_is_a_file(model, tmp_path, capsys):
    """A file that says where its rows are is asked like any other task."""
    for name, first in (("rows", 0), ("support", 6)):
        rows = [
            {"id": f"{n}", "image": f"{n}.png", "q": f"what is {n}", "a": [f"a {n}"]} for n in range(first, first + 6)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        for row in rows:
            Image.new("RGB", (8, 8), (int(row["id"]), 0, 0)).save(tmp_path / row["image"])
    (tmp_path / "mine.json").write_text(
        json.dumps(
            {
                "name": "mine", "kind": "question", "answering": "open", "metric": "exact_match", "rows": "rows.jsonl",
                "support": "support.jsonl", "fields": {"id": "id", "image": "image", "question": "q", "answers": "a"},
            }
        )
    )  # fmt: skip
    command = ["eval", "--tasks", str(tmp_path / "mine.json"), "--model", model, "--out", str(tmp_path / "out")]
    assert main([*command, *SETTINGS]) == 0, capsys.readouterr().err
    assert "mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    (
        ([], "--tasks names no task; `flamingo-blocks eval --list` prints them"),
        (["--tasks", "vqav2"], "--data names no folder, which task vqav2 is read from"),
        (["--tasks", "vqa2", "--data", "."], "task is 'vqa2', did you mean 'vqav2'?"),
        (["--tasks", "vqav2", "--data", "."], "the folder does not exist. It takes"),
        (["--tasks", "counting"], "--model names no model"),
        (["--tasks", "counting", "--model", "gone"], "--model names gone, which is no folder; wanted a folder that"),
        (["--tasks", "counting", "--model", "FILE:nothing"], "returned a int; wanted a folder that"),
        (
            ["--tasks", "counting", "--model", "FILE:model", "--controls", "blnd"],
            "controls has 'blnd', wanted some",
        ),
        (["--tasks", "counting", "--model", "FILE:half"], "returned a int beside the model; wanted a folder that"),
        (
            ["--tasks", "counting", "--model", "gone.py:model"],
            "--model names gone.py:model: 'gone.py', and",
        ),
        (["--tasks", "counting", "--model", "FILE:model", "--device", "gpu"], "--device is 'gpu', wanted cpu, cuda"),
        (["--tasks", "counting", "--model", "FILE"], "model.py; add :FUNCTION; it has model, nothing, half, kind\n"),
        (["--tasks", "counting", "--model", "FILE:kind"], "returned a class, Says; return an instance of it"),
        (["--tasks", "counting", "--model", "FILE:model", "--chat"], "--chat is for folders of transformers; have"),
        (["--rescore", "gone", "--tasks", "counting"], "gone/results.json"),
        (["--tasks", "bindings"], "task is 'bindings', did you mean 'binding'? The tasks are coco, flickr30k"),
        (["--tasks", "counting,vqa2:val"], "task is 'vqa2:val', did you mean 'vqav2'? The tasks are coco, flickr30k"),
        (["--tasks", "qqqq"], "binding:closed, matching:closed, demo, or a file TASK.yaml of your own"),
        (["--tasks", "binding:shut"], "--tasks has 'binding:shut', wanted binding or binding:closed"),
        (["--tasks", "counting:closed"], "--tasks has 'counting:closed', wanted counting\n"),
        (["--tasks", "binding,matching", "--shots", "0,65"], "--shots asks 65, and task binding has 64 at most"),
        (["--tasks", "matching", "--shots", "129"], "--shots asks 129, and task matching has 128 at most"),
        (["--tasks", "counting", "--export", "a.json"], "name the folder of their run with --rescore"),
        (
            ["--tasks", "binding,matching", "--rices"],
            "--rices chooses no shots for binding, matching, whose queries bring their own; leave it out",
        ),
        (
            ["--tasks", "counting", "--model", "FILE:model", "--max-missing", "2"],
            "--max-missing is 2.0, wanted a share",
        ),
        (["--tasks", "counting", "--model", "FILE:model", "--seeds", "1,1"], "--seeds is [1, 1], which names a number"),
    ),
)
def test_slips_are_told_in_words(model, tmp_path, monkeypatch, capsys, words, said):
    """What cannot be done ends with status 1 and the reason, without a trace."""
    monkeypatch.chdir(tmp_path)
    words = [word.replace("FILE", model.partition(":")[0]) for word in words]
    assert main(["eval", *words]) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("words", "said"),
    (
        (["--list", "--json"], "--json prints the summary of the scores, and --list has none"),
        (["--tasks", "demo", "--model", "m", "--chat"], "--chat does nothing with --tasks demo"),
        (["--tasks", "demo", "--model", "m", "--tokenizer", "t"], "--tokenizer does nothing with --tasks demo"),
        (["--tasks", "demo", "--model", "m", "--data", "d"], "--data does nothing with --tasks demo"),
        (
            ["--rescore", ".", "--tasks", "demo", "--export", "f", "--shots", "0", "--seeds", "0"],
            "--export writes what a server or script takes, and the tasks of demo have neither",
        ),
    ),
)
def test_words_without_use_are_refused(words, said, capsys):
    """With what to leave out, and status 1."""
    assert main(["eval", *words]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("word", ["nan", "inf", "0", "-1", "much"])
def test_memory_is_a_number_above_zero(word, capsys):
    """In words of the option, with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--tasks", "counting", f"--memory-gb={word}"])
    assert stopped.value.code == 2
    assert f"{word!r} is no number above 0, such as 2 or 0.5" in capsys.readouterr().err


def test_more_shots_than_a_task_has_are_told_with_the_rest(model, tmp_path, capsys):
    """So that the command can be given again."""
    command = ["eval", "--tasks", "counting", "--model", model, "--out", str(tmp_path)]
    assert main([*command, "--queries", "4", "--shots", "0,8,500"]) == 1
    assert "--shots asks 500, and task counting has 64 at most; ask --shots 0,8" in capsys.readouterr().err


def test_a_process_may_wait_for_another_for_days(monkeypatch):
    """The share of one may take hours longer, and what is asked is lost to nobody for that."""
    asked = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(evaluate.distributed, "init_process_group", lambda _backend, **more: asked.update(more))
    monkeypatch.setattr(evaluate.distributed, "destroy_process_group", lambda: None)
    with evaluate._together():
        assert asked["timeout"] > timedelta(days=1)


def test_a_rank_without_others_is_no_group(monkeypatch):
    """A variable that something else left there starts none."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with evaluate._together():
        assert not evaluate.distributed.is_initialized()


def test_numbers_are_lists(capsys):
    """Shots that are no numbers are said, with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--shots", "0,four"])
    assert stopped.value.code == 2
    assert "'0,four' is no list of whole numbers such as 0,4,8" in capsys.readouterr().err


def test_the_help_has_the_default_controls(capsys):
    """With how many shots they are asked, and which ones tell whether images are used."""
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--help"])
    assert stopped.value.code == 0
    printed = "".join(capsys.readouterr().out.split())
    assert "askedwiththelargestof--shotsalone" in printed
    assert f"default:{','.join(DEFAULT_CONTROLS)}" in printed
    assert "Whetherimagesareusedtellgates_closed,swap_query_imageandshuffle_images" in printed
    assert "ofanothermodeloftransformershasnone" in printed


def test_answers_for_a_server_are_one_file(model, tmp_path, capsys):
    """After a run of several tasks the answers of one number of shots are written as the server of the task takes them.

    The other tasks are not read, and the report stays as it was.
    """
    WRITERS["vqav2"](tmp_path / "data" / "vqav2")
    tasks = ["--tasks", "vqav2:val", "--data", str(tmp_path / "data")]
    out, file = tmp_path / "out", tmp_path / "answers.json"
    both = ["--tasks", "vqav2:val,counting", "--data", str(tmp_path / "data")]
    assert main(["eval", *both, "--model", model, "--out", str(out), *SETTINGS]) == 0
    (out / "report.md").write_text("of mine")
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    again = ["eval", *tasks, "--rescore", str(out), "--seeds", "0", "--export", str(file)]
    capsys.readouterr()
    assert main([*again, "--shots", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"  {file}: answers to vqav2, as its server or script takes them"]
    rows = json.loads(file.read_text())
    assert rows[0].keys() == {"question_id", "answer"}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    assert main([*again, "--shots", "0,2"]) == 1
    assert main([*again, "--shots", "8"]) == 1
    said = capsys.readouterr().err
    assert "--export writes one file; name one of each with --tasks, --shots and --seeds" in said
    assert "has no answers to vqav2 with 8 shots and seed 0" in said


def test_scores_of_rareact_are_a_matrix(model, tmp_path, capsys):
    """After a run of all clips the matrix has what was found likely, a row for each; it is asked without shots."""
    VIDEO_WRITERS["rareact"](tmp_path / "data" / "rareact")
    asked = ["eval", "--tasks", "rareact", "--data", str(tmp_path / "data"), "--seeds", "0"]
    out, file = tmp_path / "out", tmp_path / "predictions.npy"
    assert main([*asked, "--model", model, "--out", str(out), "--controls", ""]) == 1
    assert "task rareact has no shots; ask it by a command of its own, with --shots 0" in capsys.readouterr().err
    asked += ["--shots", "0"]
    assert main([*asked, "--model", model, "--out", str(out), "--controls", ""]) == 0
    assert main([*asked, "--rescore", str(out), "--export", str(file)]) == 0
    said = {one.id: one.log_probs for one in read_predictions(out / "predictions.jsonl")}
    assert np.load(file).tolist() == [list(said[str(number)]) for number in range(len(said))]


def test_a_run_that_is_not_finished_is_told(tmp_path, capsys):
    """A folder with a journal alone has nothing to score or to export; its own command goes on."""
    (tmp_path / "journal").mkdir()
    words = ["eval", "--rescore", str(tmp_path), "--tasks", "counting", "--shots", "0", "--seeds", "0"]
    for more in ([], ["--export", str(tmp_path / "a.json")]):
        assert main([*words, *more]) == 1
        assert f"{tmp_path}, whose run is not finished; give its command again" in capsys.readouterr().err


def test_the_suite_is_asked_with_closed_answers_by_either_name(model, tmp_path):
    """`binding:closed` and the name that stands in files, `binding_closed`, are one task."""
    for number, names in enumerate(("binding:closed,matching:closed", "binding_closed,matching_closed")):
        command = ["eval", "--tasks", names, "--model", model, "--out", str(tmp_path / str(number)), *SETTINGS]
        assert main([*command, "--controls", ""]) == 0
    one, two = (read_predictions(tmp_path / name / "predictions.jsonl") for name in "01")
    assert one == two
    assert {each.task for each in one} == {"binding_closed", "matching_closed"}


def test_the_suite_has_shots_enough_for_the_default_run():
    """None of its tasks refuses the numbers of shots that are asked where none are named."""
    tasks = read_named_tasks(OF_SUITE, data=None, queries=1, seed=0)
    check_shots(tasks, EvalConfig().shots)


def test_settings_without_effect_are_noted(model, tmp_path, capsys):
    """Beside a task whose shots are chosen, those that bring their own are named."""
    command = ["eval", "--tasks", "binding,counting", "--model", model, "--out", str(tmp_path / "out"), *SETTINGS]
    assert main([*command, "--controls", "", "--rices"]) == 0
    assert "note: --rices chooses no shots for binding, whose queries bring their own" in capsys.readouterr().err


def test_rices_without_a_tower_are_told_in_options(tmp_path, capsys):
    """What a run says of settings is said of the options that they were given by."""
    (tmp_path / "says.py").write_text(
        "from tests.evaluation.answering.says import Says\n\n\ndef model():\n    return Says()\n"
    )
    command = ["eval", "--tasks", "counting", "--model", f"{tmp_path / 'says.py'}:model", "--out", str(tmp_path / "o")]
    assert main([*command, *SETTINGS, "--controls", "", "--rices"]) == 1
    assert "--rices is given, but the model has no vision tower; leave it out" in capsys.readouterr().err
