"""Answers that are right to the letter, and stems of answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.metrics import (
    ExactMatch,
    IvqaAccuracy,
    OkVqaAccuracy,
    StemMap,
    ivqa_accuracy,
    normalise_vqa,
    top1,
)
from tests.evaluation.metrics.answered import pairs

WORDS = st.sampled_from(["guitar", "Guitar.", " guitar ", "a guitar", "piano", "", "two"])


@pytest.mark.parametrize(
    ("prediction", "right", "expected"),
    [("Guitar.", "guitar", 1), (" guitar\t", "Guitar", 1), ("a guitar", "guitar", 0), ("", "guitar", 0), (".", "", 1)],
)
def test_case_white_space_and_the_final_period_do_not_count(prediction, right, expected):
    """Top-1 is equality but for these three."""
    assert top1(prediction, [right]) == expected


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.5), (2, 1), (3, 1), (5, 1)])
def test_two_of_five_people_make_an_answer_right(agreeing, expected):
    """On iVQA each person who agrees counts half, up to 1."""
    assert ivqa_accuracy("Knife.", ["knife"] * agreeing + ["fork"] * (5 - agreeing)) == expected


@given(
    st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=5), WORDS), min_size=1), st.randoms(use_true_random=False)
)
def test_scores_are_means_that_no_order_changes(rows, random):
    """The value is the mean of the items', the same in any order of the items."""
    for metric in (ExactMatch(), IvqaAccuracy()):
        score = metric.score(*pairs(rows))
        assert score.value == pytest.approx(sum(score.per_item) / len(rows))
        assert metric.score(*pairs(random.sample(rows, len(rows)))).value == score.value


def test_the_variant_in_vqa_normal_form_stands_beside():
    """An article costs the headline, not the other; line breaks are folded, empty answers counted."""
    items, predictions = pairs([(["guitar"], "a guitar"), (["a dog"], "a\u2028dog"), (["x"], " ")])
    score = ExactMatch().score(items, predictions)
    assert score.variant == "top-1(lower, strip, period)"
    assert score.per_item == (0, 100, 0) and score.parts == {"top-1(VQA-normalised)": pytest.approx(200 / 3)}
    assert score.counts["empty"] == 1
    score = IvqaAccuracy().score(*pairs([(["dog"] * 2 + ["cat"] * 3, "the dog")]))
    assert score.value == 0 and score.parts == {"iVQA(VQA-normalised)": 100}


def test_stems_come_from_annotations_and_from_rules_for_what_they_lack():
    """Whole answers come first, then words by majority, then rules, which ask the stems that are known."""
    stems = StemMap.learn(
        [
            ("Skateboarding", "skateboard"), ("skateboarding", "skateboard"), ("skateboarding", "skate"),
            ("riding bikes", "ride bike"), ("riding waves", "ride wave"), ("playing on the bus", "play bus"), ("", "x"),
            ("horses", "horse"), ("hot dogs", "hotdog"), ("school bus", "school bus"),
        ]
    )  # fmt: skip
    assert stems.apply("skateboarding") == "skateboard"
    assert stems.apply("Riding the waves!") == "ride wave"
    assert stems.apply("hot dogs") == "hotdog" and stems.apply("2 hot dogs") == "2 hot dog"
    assert stems.apply("playing on the bus") == "play bus"
    assert stems.apply("buses") == "bus" and stems.apply("") == ""
    assert stems.apply("never seen") == "never seen"


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("surfing", "surf"), ("running", "run"), ("hiking", "hike"), ("eating", "eat"), ("grilling", "grill"),
        ("dancing", "dance"), ("ring", "ring"), ("string", "string"), ("ponies", "pony"), ("boxes", "box"),
        ("dishes", "dish"), ("glass", "glass"), ("tennis", "tennis"), ("bus", "bus"), ("waves", "wave"),
        ("it's", "it's"), ("playing", "play"), ("fixing", "fix"),
    ],
)  # fmt: skip
def test_rules_take_plurals_and_ing_from_words_that_were_never_seen(word, stem):
    """What the rules make of words when nothing was learnt."""
    assert StemMap({}, {}).apply(word) == stem


@given(st.lists(st.tuples(st.text("ab sing", max_size=6), st.text("ab sing", max_size=6))), st.text(max_size=9))
def test_stems_are_in_normal_form_and_known_answers_get_their_stem(learnt, text):
    """Every stem is its own normal form; an answer that always had one stem gets it."""
    stems = StemMap.learn(learnt)
    assert normalise_vqa(stems.apply(text)) == stems.apply(text)
    for raw, stem in learnt:
        same = {normalise_vqa(other) for before, other in learnt if normalise_vqa(before) == normalise_vqa(raw)}
        if len(same) == 1 and normalise_vqa(raw):
            assert stems.apply(raw) == normalise_vqa(stem)


def test_predictions_are_stemmed_as_annotations_were():
    """The headline says how it stems; what the same answers score without is a part."""
    items, predictions = pairs([(["surf"] * 10, "Surfing"), (["dog"] * 10, "dog")])
    score = OkVqaAccuracy(stem_map=StemMap.learn([("surfing", "surf")])).score(items, predictions)
    assert score.variant == "VQA(always, stem=annotation)" and score.value == 100
    assert score.parts == {"VQA(always, stem=none)": 50}
    plain = OkVqaAccuracy(stem_map=None).score(items, predictions)
    assert plain.variant == "VQA(always, stem=none)" and plain.value == 50
