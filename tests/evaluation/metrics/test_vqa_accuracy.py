"""VQA accuracy: its laws, the worked cases, and the code of others on random strings."""

import warnings
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.metrics import VqaAccuracy, normalise_vqa, vqa_accuracy
from tests.evaluation.metrics.answered import pairs, peer_file

PIECES = st.sampled_from(
    [*";/[]\"{}()=+\\_-><@`,?!.':%$ ", "\n", "\t", " ", " ", "a", "The", "dont", "im", "somebody'd", "two", "none",
     "ten", "1,0", "2", "x", "'s", "I'dve", "wouldnt've", "é", "3.5", "..."]
)  # fmt: skip
STRANGE = st.lists(PIECES, max_size=12).map("".join)
ANSWERS = st.lists(STRANGE, min_size=10, max_size=10)
FEW = st.sampled_from(["yes", "Yes.", "a yes", "no", "2", "two", ""])


def ten(*counted):
    return [answer for answer, count in counted for _ in range(count)]


CASES = {
    1: (ten(("red", 1), ("blue", 9)), "red", (0.3, 0.3, 0.3)),
    2: (ten(("Yes", 10)), "yes", (0, 1, 1)),
    3: (ten(("dog", 10)), "a dog", (0, 1, 1)),
    4: (ten(("dog", 9), ("cat", 1)), "A Dog.", (1, 1, 1)),
    5: (ten(("2", 6), ("two", 3), ("3", 1)), "two", (1, 1, 1)),
    6: (ten(("0", 5), ("none", 4), ("many", 1)), "none", (1, 1, 1)),
    7: (ten(("1,000", 5), ("1000", 4), ("many", 1)), "1000", (1, 1, 1)),
    8: (ten(("t-shirt", 6), ("t shirt", 3), ("shirt", 1)), "t shirt", (1, 1, 1)),
    9: (ten(("red - blue", 8), ("redblue", 1), ("red blue", 1)), "red blue", (1, 1, 1)),
    10: (ten(("red, white", 8), ("red white", 2)), "red,white", (1, 1, 0)),
    11: (ten(("don't know", 6), ("dont know", 3), ("no", 1)), "dont know", (1, 1, 1)),
    12: (ten(("it's red", 8), ("its red", 2)), "its red", (0.6, 0.6, 0.6)),
    13: (ten(("i'm", 8), ("im", 2)), "Im", (0.6, 0.6, 0.6)),
    14: (ten(("eleven", 2), ("11", 8)), "eleven", (0.6, 0.6, 0.6)),
    15: (ten(("a", 8), ("b", 2)), "the", (1, 1, 1)),
    16: (ten(("", 3), ("x", 7)), "", (0.9, 0.9, 0.9)),
    17: (ten(("50%", 8), ("50", 2)), "50 %", (0, 0, 0)),
    18: (ten((".5", 8), ("x", 2)), "0.5", (0, 0, 0)),
    19: (ten(("don't", 8), ("x", 2)), "don\u2019t", (0, 0, 0)),
}


@pytest.mark.parametrize("number", CASES)
def test_worked_cases_score_what_the_codes_of_the_tasks_give(number):
    """Nineteen small cases score what the original, open_flamingo's and MMF's code gave for them."""
    answers, prediction, expected = CASES[number]
    found = [vqa_accuracy(prediction, answers, profile=profile) for profile in ("official", "always", "textvqa")]
    assert found == pytest.approx(expected)


def test_a_comma_between_digits_makes_every_mark_vanish():
    """`1,000 a-b` has no hyphen left to become a space; MMF's rule takes the comma first, so it has."""
    assert normalise_vqa("1,000 a-b", "always") == normalise_vqa("1,000 a-b", "official") == "1000 ab"
    assert normalise_vqa("1,000 a-b", "textvqa") == "1000 b"


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1), (10, 1)])
def test_people_who_agree_count_by_thirds_with_each_left_out_once(agreeing, expected):
    """Of ten people, 1, 2, 3 and 4 who agree make 0.3, 0.6, 0.9 and 1; all ten make 1, not 0."""
    answers = ["dog"] * agreeing + ["cat"] * (10 - agreeing)
    assert vqa_accuracy("dog", answers, profile="vizwiz") == pytest.approx(expected)


def test_only_the_prediction_is_normalised_for_vizwiz():
    """Ground truth that is not in normal form can never be met."""
    answers = ["A dog"] * 5 + ["dog"] * 5
    assert vqa_accuracy("a dog.", answers, profile="vizwiz") == 1.0
    assert vqa_accuracy("a dog.", ["A dog"] * 10, profile="vizwiz") == 0.0


def test_at_most_32_periods_go():
    """The original passes a flag where a count is wanted; the thirty-third period stays."""
    assert normalise_vqa("." * 32) == ""
    assert normalise_vqa("." * 33) == "."


@given(STRANGE)
def test_normalising_twice_is_normalising_once(text):
    """A normalised answer is its own normal form."""
    once = normalise_vqa(text)
    assert normalise_vqa(once) == once


@given(FEW, st.lists(FEW, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_an_agreeing_person_never_lowers_the_accuracy_and_no_order_changes_it(prediction, answers, random):
    """One more person who gives the predicted answer lowers nothing; people may come in any order."""
    before = vqa_accuracy(prediction, answers, profile="always")
    assert vqa_accuracy(prediction, [*answers, prediction], profile="always") >= before
    assert vqa_accuracy(prediction, random.sample(answers, len(answers)), profile="always") == before


@given(FEW, st.lists(FEW, min_size=1, max_size=12))
def test_the_closed_form_is_the_mean_over_people_left_out(prediction, answers):
    """The accuracy is the mean, over people left out by place, of a third for each other who agrees, 1 at most."""
    normal = [normalise_vqa(answer) for answer in answers]
    thirds = [
        min(1, sum(other == normalise_vqa(prediction) for place, other in enumerate(normal) if place != left) / 3)
        for left in range(len(normal))
    ]
    assert vqa_accuracy(prediction, answers, profile="always") == pytest.approx(sum(thirds) / len(thirds))


@cache
def open_flamingo():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its patterns have escapes that Python warns about
        return peer_file("open_flamingo", "eval/vqa_metric.py")


@pytest.mark.peers
@given(STRANGE, ANSWERS)
def test_open_flamingo_gives_the_same_accuracy_on_any_strings(prediction, answers):
    """`"always"` is what open_flamingo's code gives, for the normal form and for the accuracy."""
    evaluation = open_flamingo().VQAEval(None, None)

    def normal(text):
        plain = text.replace("\n", " ").replace("\t", " ").strip()
        return evaluation.processDigitArticle(evaluation.processPunctuation(plain))

    assert [normalise_vqa(text) for text in answers] == [normal(text) for text in answers]
    rows = [{"answer": answer, "answer_id": place} for place, answer in enumerate(answers)]
    given = {"answers": rows, "question_type": "what", "answer_type": "other"}
    evaluation.vqa = type("Truth", (), {"qa": {1: given}})
    evaluation.vqaRes = type("Result", (), {"qa": {1: {"answer": prediction}}})
    evaluation.updateProgress = lambda progress: None
    evaluation.evaluate([1])
    assert round(100 * vqa_accuracy(prediction, answers, profile="always"), 2) == evaluation.evalQA[1]


@pytest.mark.peers
def test_the_table_of_contractions_is_that_of_open_flamingo():
    """Every key of its table becomes what it says there, but for the four with a capital that never match."""
    table = open_flamingo().VQAEval(None, None).contractions
    ours = {key: normalise_vqa(key) for key in table}
    assert {key: ours[key] for key in table if key == key.lower()} == {k: v for k, v in table.items() if k == k.lower()}
    assert sum(key != key.lower() for key in table) == 4


@given(STRANGE)
def test_lmms_eval_has_the_same_normal_form_for_textvqa(text):
    """`"textvqa"` is what lmms-eval, after MMF, makes of any string, where that package is installed."""
    normal = peer_file("lmms_eval", "tasks/_task_utils/vqa_eval_metric.py").EvalAIAnswerProcessor()
    assert normalise_vqa(text, "textvqa") == normal(text)


def test_perfect_answers_score_100_and_their_types_are_parts():
    """Where four people or more agree with each prediction, the score is 100, for each type as well."""
    items, predictions = pairs([(["Yes"] * 9 + ["no"], "yes"), (["red"] * 4 + ["blue"] * 6, "red")])
    items[0].facts["answer_type"] = "yes/no"
    score = VqaAccuracy(beside=("always", "textvqa")).score(items, predictions)
    assert score.variant == "VQA(official)" and score.value == 100 and score.per_item == (100, 100)
    assert score.parts == {"VQA(always)": 100, "VQA(textvqa)": 100, "answer_type yes/no": 100}


def test_items_without_answers_do_not_count():
    """A test split has no answers and no score; what is out of the ordinary is counted."""
    items, predictions = pairs([((), "yes"), ((), " \n"), (["é"] * 3, "é\u2028")])
    score = VqaAccuracy().score(items, predictions)
    assert score.value == pytest.approx(200 / 3)
    assert score.per_item == (None, None, score.value)
    assert score.counts == {
        "asked": 3, "empty": 1, "non_ascii": 1, "scored": 1, "without_answers": 2, "other_than_ten_answers": 1,
    }  # fmt: skip
    assert VqaAccuracy().score(items[:2], predictions[:2]).value is None


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_arguments_are_told():
    """An unknown profile and an empty list of answers are refused by name."""
    with pytest.raises(ValueError, match="profile is 'strict', wanted one of 'official', 'always'"):
        vqa_accuracy("a", ["a"], profile="strict")
    with pytest.raises(ValueError, match="profile is 'strict'"):
        VqaAccuracy(beside=("strict",))
    with pytest.raises(ValueError, match="answers is empty"):
        vqa_accuracy("a", [])
    items, predictions = pairs([(["a"], "a")])
    with pytest.raises(ValueError, match="items has 1 queries, predictions 0"):
        VqaAccuracy().score(items, predictions[:0])
