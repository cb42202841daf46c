"""What a run leaves as it was, and folders that it refuses."""

from dataclasses import replace

import pytest

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import EvalConfig, EvaluationResult, evaluate, rescore
from flamingo_blocks.evaluation.reports import write_results
from flamingo_blocks.evaluation.runner.ask import Asker
from flamingo_blocks.evaluation.runner.run_folder import RunFolder
from flamingo_blocks.evaluation.synthetic import synthetic_task
from tests.evaluation.runner.runs import CONFIG, make_tasks, run, scores
from tests.evaluation.subjects import make_subject


def test_each_part_of_the_model_is_in_its_own_mode_afterwards():
    """A frozen tower in eval mode stays in it, beside blocks that train."""
    flamingo, processor = make_subject()
    flamingo.train()
    flamingo.vision.eval()
    before = {name: part.training for name, part in flamingo.named_modules()}
    task = synthetic_task("binding", queries=1, size=8, answering="closed")
    evaluate(flamingo, processor, [task], EvalConfig(shots=(0,), seeds=(0,), controls=(), bootstrap=0))
    assert {name: part.training for name, part in flamingo.named_modules()} == before


def test_a_damaged_result_is_told_before_anything_is_asked(tmp_path):
    """Its answers are not lost with it: without the file the same call scores them again."""
    config = replace(CONFIG, shots=(0,), seeds=(0,), controls=(), num_queries=2, bootstrap=0)
    found = run(config, folder=tmp_path)
    (tmp_path / "results.json").write_text("{")
    progress = []
    with pytest.raises(EvaluationError, match=r"results.json: is no JSON: .*; move .*results.json away: answers"):
        run(config, folder=tmp_path, on_progress=lambda *told: progress.append(told))
    assert not progress
    (tmp_path / "results.json").unlink()
    assert scores(run(config, folder=tmp_path)) == scores(found)


def test_a_damaged_note_of_a_run_is_told(tmp_path):
    """What is no object says nothing of the answers beside it."""
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(EvaluationError, match=r"run.json is damaged: it holds \[\], wanted an object; name another"):
        RunFolder.open(tmp_path, {"model": {"weights": "0", "processor": ""}, "settings": {}, "tasks": {}})


def test_results_that_no_run_wrote_are_not_scored_again(tmp_path):
    """Without the settings of a run there is no telling how it was scored."""
    write_results(tmp_path / "results.json", EvaluationResult(cells=(), run={}, tasks={}))
    (tmp_path / "predictions.jsonl").touch()
    with pytest.raises(EvaluationError, match="results.json: run has no 'settings'; name a folder that evaluate wrote"):
        rescore(tmp_path, [])


def test_fewer_queries_than_were_answered_are_refused_before_anything_is_asked(tmp_path, monkeypatch):
    """A task that lacks answered queries, as another split does, is told at once, and the folder stays as it was."""
    config = replace(CONFIG, shots=(0,), seeds=(0,), controls=())
    (task,) = [task for task in make_tasks() if task.name == "counting"]
    run(config, folder=tmp_path, tasks=[task])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(Asker, "ask_all", lambda *_, **__: pytest.fail("asked"))
    kept = replace(task, queries=task.queries[:5])
    with pytest.raises(EvaluationError, match="holds answers to . queries that task counting has not now, such as '.'"):
        run(config, folder=tmp_path, tasks=[kept])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_an_attempt_that_failed_at_once_keeps_nobody_out(tmp_path):
    """A folder without a single answer is taken by whoever comes next."""
    config = replace(CONFIG, shots=(0,), seeds=(0,), controls=())
    tasks = [task for task in make_tasks() if task.name == "counting"]

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, folder=tmp_path, tasks=tasks, on_progress=fail)
    assert (tmp_path / "run.json").exists()
    run(replace(config, profile="open_flamingo"), folder=tmp_path, tasks=tasks)
    with pytest.raises(EvaluationError, match="holds answers of a run with profile='open_flamingo'"):
        run(config, folder=tmp_path, tasks=tasks)
