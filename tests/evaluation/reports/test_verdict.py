"""The verdict on the images says which are used, and says so when nothing can be said."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.reports import html_report, markdown_report
from flamingo_blocks.evaluation.reports.image_use import Difference
from flamingo_blocks.evaluation.reports.verdict import verdict
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.score import Score

SURE, OPEN, NONE = (9.5, 7.0, 12.0), (0.5, -1.0, 2.0), (0.0, 0.0, 0.0)
SHOTS, QUERY = ("text_only", "no_shot_images", "shuffle_images"), ("blind", "swap_query_image")


def made(differences, *, task="t", value=50.0, counts=None, title="T"):
    """A result of one task with 4 shots, whose controls have these differences; None for a control without one."""

    def cell(control, mean, difference=None):
        scores = (Score(variant="V", value=mean),)
        return Cell(
            task=task, shots=4, seed=0, control=control, scores=scores, difference=difference, counts=counts or {}
        )

    cells = [cell("none", value)]
    for control, difference in differences.items():
        cells.append(cell(control, None if value is None else value - (difference or NONE)[0], difference))
    return EvaluationResult(cells=tuple(cells), run={}, tasks={task: {"title": title}})


def told(differences, **more):
    """The verdict, which stands at the top of the report and at the task."""
    text = markdown_report(made(differences, **more)).replace("\\", "")
    first = text.split("\n- T: ")[1].splitlines()[0]
    assert f"**Does it use the images?** {first}\n" in text
    return first


@pytest.mark.parametrize(
    ("control", "begin"),
    (
        ("gates_closed", "Yes: with its gates closed, so that it sees no image, the score is 9.50 lower"),
        ("text_only", "Yes, those of the shots: with the shots as text alone the score is 9.50 lower"),
        ("no_shot_images", "Yes, those of the shots: with blank images in the shots the score is 9.50 lower"),
        ("shuffle_images", "Yes, those of the shots: with the images of the shots exchanged the score is 9.50 lower"),
        ("blind", "Yes, that of the query: without the image asked about the score is 9.50 lower"),
        ("swap_query_image", "Yes, that of the query: with another image in the query the score is 9.50 lower"),
    ),
)
def test_a_loss_under_any_control_of_images_is_proof(control, begin):
    """Alone, and beside others that show nothing."""
    others = dict.fromkeys(("gates_closed", *SHOTS, *QUERY, "shuffle_labels"), OPEN)
    for differences in ({control: SURE}, {**others, control: SURE}):
        assert told(differences) == f"{begin} (95 %: 7.00 to 12.00)."


def test_images_of_the_shots_and_of_the_query_are_both_told():
    """With the surest of each, whatever the gates say besides."""
    gates, shots = (
        {"gates_closed": (30.0, 25.0, 35.0)},
        {"text_only": (3.0, 1.0, 5.0), "shuffle_images": (2.5, 2.0, 3.0)},
    )
    assert told({**gates, **shots, "blind": SURE}) == (
        "Yes, those of the shots and that of the query: with the images of the shots exchanged the score is 2.50 lower "
        "(95 %: 2.00 to 3.00), without the image asked about 9.50 lower (95 %: 7.00 to 12.00)."
    )


@given(
    st.dictionaries(st.sampled_from(("gates_closed", *SHOTS, *QUERY, "shuffle_labels")), st.sampled_from((SURE, OPEN)))
)
def test_yes_is_said_if_and_only_if_a_control_of_images_shows_it(differences):
    """And of what it shows; controls of texts prove nothing of images."""
    sure = {control for control, difference in differences.items() if difference == SURE} - {"shuffle_labels"}
    found = told(differences)
    assert found.startswith("Yes") == bool(sure)
    assert ("those of the shots" in found) == bool(sure & set(SHOTS))
    assert ("that of the query" in found) == bool(sure & set(QUERY))
    assert found.startswith("Not asked: none of the controls gates_closed,") == (
        not differences.keys() - {"shuffle_labels"}
    )


def test_without_a_loss_nothing_is_shown():
    """The control that comes nearest to a loss is told."""
    found = told({"blind": OPEN, "shuffle_images": (0.1, -0.5, 0.7), "shuffle_labels": SURE})
    assert found == "Not shown: with the images of the shots exchanged the difference is 0.10 (95 %: -0.50 to 0.70)."
    text = markdown_report(made({"blind": (-2.0, -3.0, -1.0)}))
    assert "it scores 2.00 more with 4 shots (95 %: 1.00 to 3.00): it does better so" in text


def test_a_split_without_public_answers_is_told():
    """Whether controls were run or not; where a server is known, how the answers get there."""
    counts, how = {"asked": 20, "scored": 0, "without_answers": 20}, "(--rescore DIR --export FILE)"
    said = "Cannot be said: this split has no public answers"
    for differences in ({}, {"blind": None}):
        assert told(differences, value=None, counts=counts) == f"{said}."
        found = told(differences, value=None, counts=counts, task="vqav2")
        assert found == f"{said}; export what was answered for the server that scores it {how}."
        ranks = {"asked": 20, "scored": 0, "nothing_relevant": 0, "ranked": 0}
        assert told(differences, value=None, counts=ranks, task="visdial") == found


def test_controls_without_a_difference_were_run_all_the_same():
    """Queries that have no score together, such as those of one label, and scores without intervals."""
    one_label = {"asked": 3, "scored": 0, "without_answers": 0, "of_one_label": 3}
    found = told({"blind": None}, value=None, counts=one_label)
    assert found == "Cannot be said: the queries that were asked have no score; see what was counted."
    unranked = {"asked": 3, "scored": 0, "nothing_relevant": 0, "ranked": 3}
    assert told({"blind": None}, value=None, counts=unranked) == found
    assert told({"blind": None}) == "Cannot be said: no interval of a difference to blind was drawn."


def test_a_score_that_has_nothing_to_lose_tells_nothing():
    """At 0, or not above the best baseline, a difference of nothing is no sign; a loss is proof all the same."""
    zero = made({"blind": NONE}, value=0.0)
    assert told({"blind": NONE}, value=0.0) == "Cannot be told: with 4 shots the score is at 0."
    for text in (markdown_report(zero), html_report(zero)):
        assert "(95 %: 0.00 to 0.00): this says nothing, for the score is at 0." in text
        assert "no effect is shown" not in text
    baselines = {"baseline:support_majority": SURE, "baseline:last_shot": (0.0, -1.0, 1.0)}
    assert told({"blind": OPEN, **baselines}) == (
        "Cannot be told: with 4 shots the score does not stand above the baseline last_shot, which answers without a "
        "model."
    )
    assert told({"blind": SURE, **baselines}).startswith("Yes, that of the query")
    assert told({"blind": OPEN, "baseline:last_shot": OPEN}).startswith("Not shown")


def test_a_control_that_could_have_shown_something_is_told_first():
    """Before one whose interval is nearer to a loss, yet with a number of shots whose score is at 0."""
    found = [
        Difference(control="blind", shots=8, value=0.0, low=0.0, high=0.0, floor="the score is at 0"),
        Difference(control="shuffle_images", shots=4, value=0.5, low=-1.0, high=2.0),
    ]
    assert verdict("t", [], found).startswith("Not shown: with the images of the shots exchanged")
    assert verdict("t", [], found[:1]) == "Cannot be told: with 8 shots the score is at 0."


def test_few_queries_are_counted_beside_the_verdict():
    """Whatever it is, where fewer than 30 were compared."""
    for differences in ({"blind": SURE}, {"blind": OPEN}, {"blind": OPEN, "baseline:last_shot": NONE}):
        plain = told(differences, counts={"asked": 31, "scored": 30})
        assert told(differences, counts={"asked": 31, "scored": 29}) == f"{plain} Only 29 queries were compared."
    assert told({"blind": SURE}, counts={"asked": 1}).endswith(" Only 1 query was compared.")
    for fewer in ("none", "blind"):  # the model or the control: queries of both are compared
        result = made({"blind": SURE}, counts={"asked": 40})
        cells = [replace(cell, counts={"asked": 9}) if cell.control == fewer else cell for cell in result.cells]
        found = verdict("t", cells, [Difference(control="blind", shots=4, value=9.5, low=7.0, high=12.0)])
        assert found.endswith(" Only 9 queries were compared.")


def test_the_verdict_of_each_task_stands_first():
    """In the box at the top of the page and before the first heading of the tables, with findings or without."""
    one, two = made({"blind": SURE}, title="<One>"), made({}, task="u", title="Two")
    result = EvaluationResult(cells=one.cells + two.cells, run={}, tasks={**one.tasks, **two.tasks})
    page, text = html_report(result), markdown_report(result)
    box = page[page.index("Look at this first") : page.index("</section>")]
    for top in (box, text[: text.index("\n## ")]):
        assert "&lt;One&gt;: Yes, that of the query: without" in top
        assert "Two: Not asked" in top
    assert page.index("Look at this first") < page.index("Score over shots")
    assert '<section class="card warn">' not in page
