"""Each image task comes with its metric, which reads what the task's items have."""

import pytest

from flamingo_blocks.evaluation.metrics import normalise_vqa
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.tasks import read_task
from tests.evaluation.tasks.official_files import LAYOUTS, WRITERS, Record, write_layout

VARIANTS = {
    "coco": ["CIDEr-D"],
    "flickr30k": ["CIDEr-D"],
    "vqav2": ["VQA(official", "VQA(always"],
    "okvqa": ["VQA(always, stem=annotation)"],
    "vizwiz": ["VQA(vizwiz", "VQA(always"],
    "textvqa": ["VQA(textvqa", "VQA(always"],
    "hateful_memes": ["ROC AUC"],
}


def predict(task, answer, log_probs=lambda item: ()):
    """Predictions for all queries of a task."""
    return [
        Prediction(task=task.name, id=item.id, shots=0, seed=0, answer=answer(item), log_probs=log_probs(item))
        for item in task.queries
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_task_scores_what_is_right_and_what_is_wrong(name, tmp_path):
    """Under each metric of a task, right answers score more than wrong ones, by the rule of its name."""
    WRITERS[name](tmp_path / name)
    task = read_task(name, tmp_path)
    assert len(task.metrics) == len(VARIANTS[name])
    right = predict(task, lambda item: item.answers[0], lambda item: (-float(item.answers[0] == "no"), -0.5))
    wrong = predict(task, lambda item: "zzz", lambda item: (-float(item.answers[0] == "yes"), -0.5))
    for metric, variant in zip(task.metrics, VARIANTS[name], strict=True):
        good, bad = metric.score(task.queries, right), metric.score(task.queries, wrong)
        assert good.variant.startswith(variant)
        assert good.value > bad.value == 0


@pytest.mark.parametrize(("name", "split"), [("vqav2", "test-dev"), ("vizwiz", "test"), ("textvqa", "test")])
def test_a_split_without_answers_has_no_score(name, split, tmp_path):
    """Predictions of a test split whose answers are not public score nothing, not zero."""
    splits = {"train": [Record(1, 1, "a?", ("b",) * 10)], split: [Record(1000, 1000, "c?", ("d",) * 10)]}
    write_layout(LAYOUTS[name], tmp_path / name, splits)
    task = read_task(name, tmp_path, split)
    assert [metric.score(task.queries, predict(task, lambda item: "d")).value for metric in task.metrics] == [None] * 2


def test_okvqa_learns_stems_from_both_splits(tmp_path):
    """What people wrote, in the support or in the split, is known with its stem."""
    WRITERS["okvqa"](tmp_path / "okvqa")
    task = read_task("okvqa", tmp_path)
    raw = {normalise_vqa(text) for item in (*task.support, *task.queries) for text in item.facts["raw_answers"]}
    assert set(task.metrics[0].stem_map.phrases) == raw - {""}
