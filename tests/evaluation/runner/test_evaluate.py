"""A whole evaluation: the same answers however it is run, and nothing is asked twice."""

from dataclasses import replace

import pytest
import torch

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import evaluate, rescore
from flamingo_blocks.evaluation.decode import Decoder
from flamingo_blocks.evaluation.reports import read_predictions, read_results
from flamingo_blocks.evaluation.runner import ask
from tests.evaluation.runner.runs import CONFIG, answers, make_tasks, run, run_in_process, scores
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model
from tests.processes import run_together

FILES = ("predictions.jsonl", "report.html", "report.md", "results.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run that all others are compared with."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    return folder, run(folder=folder)


def test_every_query_is_answered_once_for_each_cell(done):
    """Each query has one prediction for every number of shots, seed and control that is asked, and no other."""
    folder, result = done
    found = read_predictions(folder / "predictions.jsonl")
    assert len({one.key for one in found}) == len(found)
    wanted = set()
    for task in make_tasks():
        for seed in CONFIG.seeds:
            for control in ("none", *CONFIG.controls):
                for shots in CONFIG.shots_of(control):
                    wanted |= {(task.name, shots, seed, control)}
    assert {one.key[:4] for one in found} == wanted
    assert all(cell.counts["asked"] in (5, 7) for cell in result.cells)


def test_no_query_is_among_its_shots(done):
    """The shots of a query are other items of other pictures."""
    folder, _ = done
    for one in read_predictions(folder / "predictions.jsonl"):
        assert one.id not in one.shot_ids


@pytest.mark.parametrize("change", ({"max_rows": 1}, {"max_rows": 3}, {"max_rows": 8}, {"memory_bytes": 1}))
def test_batch_size_changes_nothing(done, tmp_path, change):
    """One, three or eight queries at once, or as many as a byte of memory allows, give the same answers and scores."""
    folder, result = done
    other = run(replace(CONFIG, **change), folder=tmp_path)
    assert answers(tmp_path) == answers(folder)
    assert scores(other) == scores(result)


def test_order_of_the_files_changes_nothing(done, tmp_path):
    """Queries and support in another order give the same draws, answers and scores."""
    folder, result = done
    other = run(folder=tmp_path, reverse=True)
    assert answers(tmp_path) == answers(folder)
    assert scores(other) == scores(result)


def test_two_processes_give_the_files_of_one(done, tmp_path):
    """Under two processes each query is asked by one of them, and the files say what one process says."""
    folder, result = done
    run_together(run_in_process, 2, str(tmp_path / "two"), folder=tmp_path)
    assert answers(tmp_path / "two") == answers(folder)
    told = read_results(tmp_path / "two" / "results.json").tasks["counting"]["decoding"]
    one = result.tasks["counting"]["decoding"]
    assert told["checked"] >= one["checked"] and told["lm_tokens"] >= one["lm_tokens"]  # of both processes
    assert (tmp_path / "two" / "report.md").exists()
    assert not (tmp_path / "two" / "journal").exists()


class Killed(BaseException):
    pass


def counted(real, asked):
    """A method of the decoder that also keeps what it is asked."""

    def method(self, queries, *rest, **more):
        asked.extend(queries)
        return real(self, queries, *rest, **more)

    return method


@pytest.mark.parametrize("after", (1, 5, 11))
def test_an_interrupted_run_goes_on_where_it_was(done, tmp_path, monkeypatch, after):
    """After a run was ended at any point, the same call asks what is left, and no query twice."""
    folder, result = done
    asked = []
    monkeypatch.setattr(ask, "_AT_ONCE", 2)
    for name in ("write", "score"):
        monkeypatch.setattr(Decoder, name, counted(getattr(Decoder, name), asked))
    calls = 0

    def stop(_name, _done, _total):
        nonlocal calls
        calls += 1
        if calls == after:
            raise Killed

    with pytest.raises(Killed):
        run(folder=tmp_path, on_progress=stop)
    other = run(folder=tmp_path)
    assert answers(tmp_path) == answers(folder)
    assert scores(other) == scores(result)
    assert len(asked) == len(answers(folder))
    again = run(folder=tmp_path)
    assert len(asked) == len(answers(folder))  # nothing was left to ask
    assert scores(again) == scores(result)
    assert again.tasks["counting"]["decoding"]["checked"] == other.tasks["counting"]["decoding"]["checked"] > 0


def test_more_is_asked_into_the_same_folder(done, tmp_path):
    """A second call with more shots asks what is new alone, and gives what one call gives."""
    folder, result = done
    run(replace(CONFIG, shots=(0, 2), controls=()), folder=tmp_path)
    assert scores(run(folder=tmp_path)) == scores(result)
    assert answers(tmp_path) == answers(folder)


def test_tasks_of_two_calls_stand_in_one_report(done, tmp_path):
    """A folder's report holds what was asked by earlier calls too, as one call would have found it."""
    _, result = done
    for task in make_tasks():
        found = run(folder=tmp_path, tasks=[task])
    assert scores(found) == scores(result)
    assert found.tasks.keys() == result.tasks.keys()
    assert all(name in (tmp_path / "report.md").read_text() for name in ("counting", "binding"))
    rescore(tmp_path, make_tasks())
    assert scores(read_results(tmp_path / "results.json")) == scores(result)


def test_tasks_of_two_calls_keep_their_intervals(tmp_path):
    """Each task is scored again by the bootstrap of its own call."""
    config, tasks = replace(CONFIG, shots=(0,), seeds=(0,), controls=()), make_tasks()
    for task, bootstrap in zip(tasks, (20, 0), strict=True):
        run(replace(config, bootstrap=bootstrap), folder=tmp_path, tasks=[task])
    before = read_results(tmp_path / "results.json")
    assert {cell.task for cell in before.cells if cell.interval is not None} == {tasks[0].name}
    rescore(tmp_path, tasks)
    assert read_results(tmp_path / "results.json") == before


def test_fewer_queries_are_asked_into_the_same_folder(tmp_path):
    """What was answered before stays in the result, and a control is compared on the queries that both were asked."""
    config = replace(CONFIG, shots=(0,), seeds=(0,), controls=("blind",))
    run(config, folder=tmp_path)
    fewer = run(replace(config, num_queries=3), folder=tmp_path)
    assert fewer.cell("counting", 0).counts["asked"] == 7
    more = run(replace(config, num_queries=8, controls=()), folder=tmp_path)
    assert more.cell("counting", 0).counts["asked"] == 8
    assert more.cell("counting", 0, control="blind").counts["asked"] == 7
    assert more.cell("counting", 0, control="blind").difference is not None
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    rescore(tmp_path, make_tasks())
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before


def test_scoring_again_gives_the_same_files(done, tmp_path):
    """Without a model, the same predictions give the same files byte for byte."""
    folder, _ = done
    before = {name: (folder / name).read_bytes() for name in FILES}
    rescore(folder, make_tasks())
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_a_folder_of_another_run_is_refused(done):
    """Answers of another prompt are not mixed with these."""
    folder, _ = done
    with pytest.raises(EvaluationError, match="profile='paper', this one has 'open_flamingo'; name another folder"):
        run(replace(CONFIG, profile="open_flamingo"), folder=folder)


def test_without_a_folder_nothing_is_written(done, tmp_path, monkeypatch):
    """The scores come back without a file."""
    monkeypatch.chdir(tmp_path)
    assert scores(run()) == scores(done[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    (
        {"selection": "rices"},
        {"profile": "open_flamingo", "num_beams": 2},
        {"ensemble": 2},
        {"groups": None},
        {"share": False},
    ),
    ids=lambda change: ", ".join(map(str, change.values())),
)
def test_each_way_of_asking_is_the_same_in_batches_of_one(tmp_path, change):
    """Shots by likeness, another profile, orders averaged, a draw for each query, nothing shared: all are the same."""
    config = replace(CONFIG, seeds=(0,), controls=(), bootstrap=0, **change)
    results = [run(replace(config, max_rows=rows), folder=tmp_path / str(rows)) for rows in (1, 8)]
    assert answers(tmp_path / "1") == answers(tmp_path / "8")
    assert scores(results[0]) == scores(results[1])


def test_sharing_prompts_changes_no_answer(done, tmp_path):
    """Each query asked with all of its shots by itself gets the answer that it gets behind a shared prompt."""
    run(replace(CONFIG, share=False), folder=tmp_path)
    assert answers(tmp_path) == answers(done[0])


def test_likeness_chooses_no_shot_in_text_alone(tmp_path):
    """At 0 shots the two in text alone are drawn by hash: chosen by the picture they would tell what it shows."""
    run(replace(CONFIG, seeds=(0,), controls=()), folder=tmp_path / "random")
    run(replace(CONFIG, seeds=(0,), controls=(), selection="rices"), folder=tmp_path / "rices")
    found = [
        {one.id: one.shot_ids for one in read_predictions(tmp_path / name / "predictions.jsonl") if not one.shots}
        for name in ("random", "rices")
    ]
    assert found[0] == found[1]
    assert any(found[0].values())


def test_what_a_control_takes_away_is_not_looked_at(tmp_path):
    """With noise for the shots' images the answers behind texts alone stay; for the query's, those of a blind model."""
    config = replace(CONFIG, shots=(2,), seeds=(0,), controls=("text_only", "blind"), bootstrap=0)
    found = {}
    for noisy in ("", "support", "queries"):
        tasks = [with_noise(task, noisy) for task in make_tasks()[:1]]
        lm = make_language_model("llama", max_position_embeddings=512)
        evaluate(*make_subject(lm=lm), tasks, config, folder=tmp_path / f"noisy {noisy}")
        found[noisy] = answers(tmp_path / f"noisy {noisy}")

    def of(control, noisy):
        return {key: told for key, told in found[noisy].items() if key[3] == control}

    assert of("text_only", "support") == of("text_only", "")
    assert of("blind", "queries") == of("blind", "")
    assert of("none", "support") != of("none", "") != of("none", "queries")


def with_noise(task, part):
    """The task with other pictures under the names of its queries' or its support's."""
    noise = torch.Generator().manual_seed(1)

    def noisy(item):
        media = (replace(one, data=torch.rand(3, 8, 8, generator=noise)) for one in item.media)
        return replace(item, media=tuple(media))

    return replace(task, **{part: tuple(map(noisy, getattr(task, part)))}) if part else task
