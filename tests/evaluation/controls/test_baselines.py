"""Answers without a model, and how often a model copies."""

from flamingo_blocks.evaluation import Prediction, TaskItem
from flamingo_blocks.evaluation.controls import BASELINES, baseline_predictions, copy_rates

ITEM = TaskItem(id="q", media=())


def make(answer: str, **more) -> Prediction:
    return Prediction(task="t", id="q", shots=3, seed=0, answer=answer, shot_ids=("a", "b", "c"), **more)


def baselines(own, shown, support, **more):
    return baseline_predictions([own], {"q": ITEM}, answers={"q": shown}, support_answers=support, **more)


def test_each_baseline_answers_by_its_rule():
    """The commonest answer of the support, the commonest of the shots, and that of the last shot."""
    found = baselines(make("x"), ["red", "red", "blue"], ["green", "red", "green"])
    assert {name: answers[0].answer for name, answers in found.items()} == dict(
        zip(BASELINES, ("green", "red", "blue"), strict=True)
    )


def test_baselines_about_shots_need_shots():
    """At 0 shots there is the commonest answer of the support alone."""
    assert list(baselines(make("x"), [], ["green"])) == ["baseline:support_majority"]
    assert baselines(make("x"), [], []) == {}


def test_a_baseline_of_a_closed_task_ranks_its_answer_first():
    """The candidate that it answers is the likeliest, the others are equally likely."""
    own = make("x", log_probs=(-1.0, -2.0, -3.0), num_tokens=(2, 2, 2))
    found = baselines(own, ["no"], [], candidates=("yes", "no", "maybe"))
    assert found["baseline:last_shot"][0].log_probs == (-1.0, 0.0, -1.0)


def test_copies_are_counted():
    """An answer that is that of a shot is a copy, whatever its case, spaces and final period."""
    assert copy_rates([make(" A  Cat.")], {"q": ["a dog", "a cat"]}) == {"copy_any": 1.0, "copy_last": 1.0}
    assert copy_rates([make("a dog")], {"q": ["a dog", "a cat"]}) == {"copy_any": 1.0, "copy_last": 0.0}
    assert copy_rates([make("a cow")], {"q": ["a dog", "a cat"]}) == {"copy_any": 0.0, "copy_last": 0.0}
    assert copy_rates([make("a cow")], {"q": []}) == {}
