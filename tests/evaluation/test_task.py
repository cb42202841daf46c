"""What a task refuses when it is made, before a model is asked."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import Task, TaskItem
from flamingo_blocks.evaluation.metrics import ClassAccuracy, StarAccuracy

CANDIDATES = st.lists(st.sampled_from(["", " ", "a", "b", "c", "a b"]), max_size=4).map(tuple)


def item(name, candidates=()):
    return TaskItem(id=name, media=(), candidates=tuple(candidates))


def task(*queries, **more):
    return Task(**{"name": "signs", "kind": "class", "answering": "closed", "metrics": (), "queries": queries, **more})


@given(for_all=CANDIDATES, own=CANDIDATES)
def test_candidates_are_texts_that_come_once_and_there_are_some(for_all, own):
    """Empty ones, those that come twice, and none at all are refused, of a task and of a query; others are taken."""
    bad = [each for each in (for_all, own) if len(set(each)) < len(each) or not all(map(str.strip, each))]
    if bad or not (for_all or own):
        with pytest.raises(EvaluationError, match="^task signs(, query '7')?: (candidate|has no candidates)"):
            task(item("7", own), candidates=for_all)
    else:
        assert task(item("7", own), candidates=for_all).candidates == for_all


@pytest.mark.parametrize(
    ("queries", "for_all", "said"),
    [
        ([item("1")], ["a", "b", "a"], "^task signs: candidate 2 is 'a', as candidate 0 is; give each text once"),
        ([item("1", "ab"), item("2", ["a", " "])], [], "^task signs, query '2': candidate 1 is ' ', wanted a text"),
        ([item("1", "ab"), item("2", "bb")], ["a"], "^task signs, query '2': candidate 1 is 'b', as candidate 0 is"),
        ([item("1", "ab"), item("2")], [], "^task signs, query '2': has no candidates, which a closed task"),
    ],
)
def test_the_error_names_task_query_and_candidate(queries, for_all, said):
    """Where all queries share the candidates there is no query to be named."""
    with pytest.raises(EvaluationError, match=said):
        task(*queries, candidates=tuple(for_all))


def test_candidates_of_shots_do_not_matter():
    """A shot shows its answer alone."""
    assert task(item("1", "ab"), support=(item("2", "aa"),)).support[0].candidates == ("a", "a")


class Even:
    """A metric that wants an even number of queries."""

    variant = "even"

    def check_queries(self, items):
        if len(items) % 2:
            raise EvaluationError(f"there are {len(items)} queries, wanted an even number")

    def score(self, items, predictions):
        raise NotImplementedError


def test_a_metric_may_refuse_the_queries():
    """The error has the name of the task, and comes as well where a task is made of another."""
    two = task(item("1"), item("2"), metrics=(Even(),), answering="open")
    with pytest.raises(EvaluationError, match="^task signs: there are 1 queries, wanted an even number"):
        replace(two, queries=two.queries[:1])


@pytest.mark.parametrize("metric", (ClassAccuracy(candidates=("stop", "exit")), StarAccuracy()))
def test_an_answer_that_is_no_candidate_is_told_when_the_task_is_made(metric):
    """Nothing is asked first: the error names task, query and answer."""
    asked = TaskItem(id="7", media=(), answers=("yield",), candidates=("stop", "exit"))
    with pytest.raises(EvaluationError, match="^task signs: query '7' has the answer 'yield', which is none of its 2"):
        task(asked, metrics=(metric,), answering="closed")


def test_a_metric_without_candidates_is_told_when_the_task_is_made():
    """Candidates of the task are asked, and its metric has to know them as well."""
    asked = TaskItem(id="7", media=(), answers=("stop",))
    with pytest.raises(EvaluationError, match="query '7' has an answer and no candidates; give the metric those"):
        task(asked, metrics=(ClassAccuracy(),), answering="closed", candidates=("stop", "exit"))
