"""What is wrong with what is asked: it is told before the model runs, or counted in the result."""

import inspect
from dataclasses import replace

import pytest
import torch

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import EvalConfig, TaskItem, evaluate, evaluate_model
from flamingo_blocks.evaluation.metrics import RocAuc, VqaAccuracy
from flamingo_blocks.evaluation.reports import read_predictions
from flamingo_blocks.evaluation.synthetic import synthetic_task
from tests.evaluation.runner.runs import make_tasks
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model

CONFIG = EvalConfig(shots=(0, 2), seeds=(0,), controls=(), bootstrap=0, max_new_tokens=2, num_beams=1)


def ask(task, config=CONFIG, *, reads=512, **more):
    flamingo, processor = make_subject(lm=make_language_model("llama", max_position_embeddings=reads))
    return evaluate(flamingo, processor, [task], config, **more)


def counting(queries=4):
    return synthetic_task("counting", queries=queries, size=8)


def with_image(item: TaskItem, data) -> TaskItem:
    return replace(item, media=(ImageSegment(url=f"broken/{item.id}", data=data),))


def test_a_missing_image_of_a_query_ends_the_run(tmp_path):
    """By default no image may be missing; the error names the first and how to allow it."""
    task = counting()
    broken = replace(task, queries=(with_image(task.queries[0], tmp_path / "gone.png"), *task.queries[1:]))
    with pytest.raises(EvaluationError, match="1 of 4 queries cannot be shown, first '.*gone.png is missing; fetch"):
        ask(broken)


def test_missing_images_that_are_allowed_are_counted(tmp_path):
    """The query is left out, and coverage stands in the result."""
    task = counting()
    broken = replace(task, queries=(with_image(task.queries[0], tmp_path / "gone.png"), *task.queries[1:]))
    result = ask(broken, replace(CONFIG, max_missing=0.25))
    assert result.cell("counting", 0).counts["asked"] == 3
    assert result.cell("counting", 0).counts["missing"] == 1
    assert list(result.tasks["counting"]["missing"]) == [task.queries[0].id]


def test_an_image_that_cannot_be_read_is_as_missing_with_the_decoders_words(tmp_path):
    """A file that is no image is told like one that is not there."""
    (tmp_path / "text.png").write_text("no image")
    task = counting()
    broken = replace(task, queries=(with_image(task.queries[0], tmp_path / "text.png"), *task.queries[1:]))
    with pytest.raises(EvaluationError, match="cannot be read: .*cannot identify image file"):
        ask(broken)


def test_support_that_cannot_be_shown_is_replaced_and_recorded(tmp_path):
    """The next hash comes in its place, and the result says which."""
    task = replace(counting(), num_support=3)
    chosen = ask(task).tasks["counting"]
    first = next(item for item in task.support if item.id)
    broken = replace(
        task, support=tuple(with_image(item, tmp_path / "gone.png") if item is first else item for item in task.support)
    )
    found = ask(replace(broken, num_support=len(task.support))).tasks["counting"]
    assert list(found["replaced"]) == [first.id]
    assert found["support"] == len(task.support) - 1
    assert chosen["support"] == 3


def test_fewer_items_than_shots_are_refused():
    """There are never fewer shots in silence."""
    task = counting()
    with pytest.raises(EvaluationError, match="2"):
        ask(replace(task, support=task.support[:1]))


@pytest.mark.parametrize("name", ("queries", "support"))
def test_an_id_that_comes_twice_is_refused(name):
    """Two items of one id could not be told apart in the predictions."""
    task = counting()
    items = getattr(task, name)
    with pytest.raises(
        EvaluationError, match=rf"{name}\[{len(items)}\] has the id '{items[0].id}', as {name}\[0\] has"
    ):
        ask(replace(task, **{name: (*items, items[0])}))


def test_two_tasks_of_one_name_are_refused():
    """Their answers could not be told apart, which is said before anything is asked."""
    task = counting()
    with pytest.raises(EvaluationError, match="tasks has 'counting' twice"):
        evaluate(*make_subject(), [task, task], EvalConfig(shots=(0,)))


def test_the_oldest_shots_go_where_the_prompt_is_too_long():
    """What the language model cannot read is dropped shot by shot, counted, and a query is never cut."""
    whole = ask(counting(), reads=512).cell("counting", 2)
    assert whole.counts["truncated"] == 0
    cut = ask(counting(), reads=40).cell("counting", 2)
    assert cut.counts["truncated"] == cut.counts["asked"]
    with pytest.raises(EvaluationError, match="a query is never cut, leave it out"):
        ask(counting(), reads=8)


def test_a_model_that_gives_nan_is_told_by_the_query():
    """Scores are not made of what is no number."""
    task = synthetic_task("binding", queries=2, size=8, answering="closed")
    flamingo, processor = make_subject(lm=make_language_model("llama", max_position_embeddings=512))
    with torch.no_grad():
        flamingo.lm.lm_head.weight.fill_(float("nan"))
    with pytest.raises(
        EvaluationError,
        match="task binding_closed, query .*: the log-probability of candidate .* is nan, wanted a finite",
    ):
        evaluate(flamingo, processor, [task], CONFIG)


def test_a_split_without_answers_has_predictions_and_no_score(tmp_path):
    """What a server would score is asked and written down, and the score is null."""
    task = counting()
    queries = tuple(replace(query, answers=()) for query in task.queries)
    result = ask(replace(task, metrics=(VqaAccuracy(),), queries=queries), folder=tmp_path)
    assert result.cell("counting", 2).scores[0].value is None
    assert len(read_predictions(tmp_path / "predictions.jsonl")) == 2 * len(queries)
    assert (tmp_path / "report.html").exists()


def test_a_few_queries_of_one_label_have_no_score_and_the_reason(tmp_path):
    """Labels are both there in the task, and not among the few that are asked: the run ends with its report."""
    task = synthetic_task("matching", queries=4, size=8, answering="closed")
    queries = tuple(replace(query, facts={"label": place % 2}) for place, query in enumerate(task.queries))
    task = replace(task, metrics=(RocAuc(),), queries=queries)
    result = ask(task, replace(CONFIG, num_queries=1, bootstrap=20, controls=("gates_closed",)), folder=tmp_path)
    cell = result.cell(task.name, 2)
    assert (cell.scores[0].value, cell.interval) == (None, None)
    assert (cell.counts["asked"], cell.counts["scored"], cell.counts["of_one_label"]) == (1, 0, 1)
    assert "of_one_label" in (tmp_path / "results.json").read_text()


def test_a_query_among_the_support_is_passed_over_and_counted():
    """An item that shows the query's picture is no shot of it, and the result says of how many queries that was so."""
    task = synthetic_task("counting", queries=4, size=16)
    copy = replace(task.queries[0], id="copy")

    def passed_over(support):
        results = [ask(replace(task, support=support), replace(CONFIG, seeds=(seed,), groups=1)) for seed in range(3)]
        return [result.tasks["counting"]["queries_with_excluded_shots"] for result in results]

    assert sum(passed_over((copy, *task.support[:3]))) > sum(passed_over(task.support[:4]))


def test_nothing_to_ask_is_refused():
    """Neither tasks nor queries may be empty."""
    flamingo, processor = make_subject()
    with pytest.raises(EvaluationError, match="tasks is empty"):
        evaluate(flamingo, processor, [], CONFIG)
    with pytest.raises(EvaluationError, match="there is no query to ask"):
        ask(replace(counting(), queries=()))


@pytest.mark.parametrize(
    ("settings", "said"),
    (
        (dict(shots=()), "shots is empty, wanted one number at least"),
        (dict(shots=(0, -4)), "shots has -4, wanted whole numbers, 0 or more"),
        (dict(shots=(4, 4)), "names a number twice"),
        (dict(seeds=()), "seeds is empty"),
        (dict(profile="papr"), "papr"),
        (dict(controls=("blnd",)), "controls has 'blnd', wanted some of gates_closed"),
        (dict(controls=("none",)), "which is always asked"),
        (dict(control_shots=(2,)), r"control_shots has \[2\], which shots \[0, 4, 8, 16, 32\] has not"),
        (dict(groups=0), "groups is 0, wanted a whole number, 1 or more"),
        (dict(max_missing=2.0), "max_missing is 2.0, wanted a share from 0 to 1"),
        (dict(selection="nearest"), 'selection is \'nearest\', wanted "random" or "rices"'),
        (dict(share="no"), "share is 'no', wanted True, False or \"auto\""),
    ),
)
def test_settings_that_cannot_be_meant_are_refused(settings, said):
    """The error names the setting, what came and what was wanted."""
    config = object.__new__(EvalConfig)  # without the shape checks of the tests, as users call it
    for name, value in (vars(EvalConfig()) | settings).items():
        object.__setattr__(config, name, value)
    with pytest.raises(EvaluationError, match=said):
        inspect.unwrap(EvalConfig.__post_init__)(config)


def test_a_model_that_no_run_can_ask_is_named():
    """A bare module is told what to put around it."""
    with pytest.raises(EvaluationError, match="model is a Linear; wanted a TransformersModel or FlamingoModel around"):
        inspect.unwrap(evaluate_model)(torch.nn.Linear(1, 1), make_tasks(), EvalConfig())


def test_a_folder_may_be_a_text_and_cells_are_sorted(tmp_path, monkeypatch):
    """The folder is named as users name folders, and cells stand by task whatever the order of the tasks."""
    monkeypatch.chdir(tmp_path)
    config = EvalConfig(shots=(0,), seeds=(0,), controls=(), bootstrap=0, num_queries=1, max_new_tokens=2)
    result = evaluate(*make_subject(), make_tasks(), config, folder="out")
    assert (tmp_path / "out" / "results.json").exists()
    assert [cell.task for cell in result.cells] == sorted(cell.task for cell in result.cells)
    with pytest.raises(KeyError, match="no cell of task 'counting' with shots=3, seed=0, control='none'; of it there"):
        result.cell("counting", 3)
    with pytest.raises(KeyError, match=r"no cell of task 'other' .*; there are \['binding_closed', 'counting'\]"):
        result.cell("other", 0)
