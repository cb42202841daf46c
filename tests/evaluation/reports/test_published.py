"""The published scores are those of the papers, as far as they can be checked against themselves."""

from collections import Counter
from math import isfinite

import pytest

from flamingo_blocks.evaluation.reports import mean_of_ratios, published_scores
from flamingo_blocks.evaluation.reports.published import FINE_TUNED, published_curve

SHOTS = (0, 4, 8, 16, 32)


@pytest.mark.parametrize(
    ("model", "means"),
    (
        ("Flamingo-3B", (64.7, 71.8, 75.2, 78.2, 80.0)),
        ("Flamingo-9B", (68.4, 77.1, 81.2, 84.0, 84.6)),
        ("Flamingo-80B", (74.3, 86.1, 90.1, 92.0, 93.4)),
    ),
)
def test_means_over_tasks_are_those_known(model, means):
    """Score / fine-tuned score over 15 tasks, with the 16-shot score where 32 dialogues are out of context."""
    tasks = [row.task for row in published_scores(model=FINE_TUNED)]
    assert len(tasks) == 15
    for shots, mean in zip(SHOTS, means, strict=True):
        scores = {task: published_curve(task, model, carried=True)[shots] for task in tasks}
        assert mean_of_ratios(scores) == pytest.approx(mean, abs=0.051)


def test_each_row_is_one_of_its_kind():
    """One score for each model, task, number of shots, choice of shots and source."""
    kinds = Counter((row.model, row.task, row.shots, row.selection, row.source) for row in published_scores())
    varied = {kind for kind, count in kinds.items() if count > 1}
    assert not varied


def test_rows_are_whole():
    """Each has a source, a metric and a score that can be; none is without a score but out of context."""
    for row in published_scores():
        assert row.source
        assert row.metric
        assert row.selection in {"random", "rices", "none"}
        assert (row.shots is None) == (row.selection == "none")
        if row.score is None:
            assert (row.task, row.shots) == ("visdial", 32)
            assert "16 at most" in row.notes
        else:
            assert isfinite(row.score)
            assert 0 < row.score < (145 if row.metric == "CIDEr" else 100)


def test_the_tables_are_complete():
    """As many rows as the tables have cells."""
    flamingo = [row for row in published_scores() if row.model.startswith("Flamingo-")]
    assert len(flamingo) == 3 * (5 * 15 + 1)
    tables = Counter(row.source for row in published_scores())
    assert tables["OpenFlamingo (arXiv 2308.01390), table 11"] == 7 * 5 * 5
    assert tables["OpenFlamingo (arXiv 2308.01390), table 12"] == 7 * 2 * 5
    assert tables["model card of IDEFICS"] == 2 * (5 * 10 - 2) + 4


@pytest.mark.parametrize(
    ("task", "model", "shots", "selection", "score"),
    (
        ("coco", "Flamingo-80B", 32, "random", 113.8),
        ("hateful_memes", "Flamingo-80B", 0, "random", 46.4),
        ("rareact", "Flamingo-80B", 0, "random", 60.8),
        ("vizwiz", "OpenFlamingo-9B", 32, "random", 44.0),
        ("coco", "OpenFlamingo-9B", 32, "rices", 109.0),
        ("hateful_memes", "OpenFlamingo-3B", 0, "rices", 63.9),
        ("imagenet", "IDEFICS-80B", 16, "rices", 72.9),
        ("visdial", "IDEFICS-9B", 8, "random", 47.6),
        ("next_qa", FINE_TUNED, None, "none", 25.2),
    ),
)
def test_single_scores(task, model, shots, selection, score):
    """Cells from the corners of the tables."""
    rows = published_scores(task, model=model)
    assert [row.score for row in rows if (row.shots, row.selection) == (shots, selection)] == [score]


def test_what_to_know_is_noted():
    """Retrieved shots without shots, and a benchmark in the training mix."""
    (leak,) = [
        row for row in published_scores("coco", model="OpenFlamingo-3B") if (row.shots, row.selection) == (0, "rices")
    ]
    assert "retrieved by the image asked about" in leak.notes
    assert all("contains COCO" in row.notes for row in published_scores("coco", model="IDEFICS-9B"))


def test_names_are_compared_without_marks():
    """As tasks are spelt in papers and here."""
    assert published_scores("OK-VQA") == published_scores("okvqa") != ()
    assert published_scores("HatefulMemes") == published_scores("hateful_memes") != ()
    assert published_scores("unheard of") == ()
