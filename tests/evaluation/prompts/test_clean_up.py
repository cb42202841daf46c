"""From what a model wrote to its answer, by both profiles."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.prompts import OPEN_FLAMINGO, PAPER, Cleaned, PromptTemplate
from flamingo_blocks.evaluation.prompts.clean_up import clean_up

PIECES = (
    "Question", "Answer", "Short", "Output", "Caption", ":", "<EOC>", ", ", ",", '"', "\n", "\t", "\u2029", " ", "net",
    "é", "<EO",
)  # fmt: skip
raws = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
kinds = st.sampled_from(sorted(PAPER.templates))
profiles = st.sampled_from([PAPER, OPEN_FLAMINGO])


def one_line(text):
    return re.sub("[\n\t\u2029]", " ", text).strip()


def of_open_flamingo(kind, raw):
    """What OpenFlamingo's evaluation keeps of an answer, written anew: it decodes up to the end of the chunk."""
    raw = raw.split("<EOC>")[0]
    if kind == "caption":
        return raw.split("Output", 1)[0].replace('"', "")
    return re.split(", ", re.split("Question|Answer|Short", raw, maxsplit=1)[0], maxsplit=1)[0]


@given(st.sampled_from(["caption", "question"]), raws)
def test_open_flamingo_is_reproduced(kind, raw):
    """Word by word; white space at the ends, and line breaks as such, are dropped by all its metrics."""
    found = OPEN_FLAMINGO.clean(kind, raw).text
    expected = one_line(of_open_flamingo(kind, raw))
    # A comma behind leading white space alone ends an empty answer either way.
    assert found == expected


@given(raws)
def test_lists_are_kept_where_asked(raw):
    """As OpenFlamingo does on OK-VQA, where it does not cut at a comma."""
    found = OPEN_FLAMINGO.clean("question", raw, keep_lists=True).text
    assert found == one_line(re.split("Question|Answer|Short", raw.split("<EOC>")[0], maxsplit=1)[0])


@given(profiles, kinds, raws, raws)
def test_what_follows_the_end_changes_nothing(profile, kind, raw, rest):
    """Neither the answer nor whether a keyword ended it."""
    assert profile.clean(kind, f"{raw}<EOC>{rest}") == profile.clean(kind, f"{raw}<EOC>")


@given(profiles, kinds, raws)
def test_an_answer_is_clean(profile, kind, raw):
    """It is one line without white space at its ends, `<EOC>` or a keyword; cleaning it again changes nothing."""
    found = profile.clean(kind, raw).text
    assert found == one_line(found)
    assert not any(keyword in found for keyword in (*profile.template(kind).keywords, "<EOC>"))
    assert profile.clean(kind, found) == Cleaned(found, by_keyword=False)


@given(kinds, st.text(st.characters(categories=["L", "N", "Zs"]), max_size=12))
def test_what_a_shot_shows_is_read_back(kind, answer):
    """The answer of a shot, with what the profile puts before it, is cleaned to itself."""
    answer = " ".join(answer.split())
    assert PAPER.clean(kind, PAPER.candidate_text(kind, answer) + "<EOC>") == Cleaned(answer, by_keyword=False)


@pytest.mark.parametrize(
    ("profile", "kind", "raw", "text", "by_keyword"),
    [
        (PAPER, "question", " Short hair<EOC>", "Short hair", False),
        (OPEN_FLAMINGO, "question", "Short hair", "", True),
        (PAPER, "question", " red, blue Question: why?", "red, blue", True),
        (OPEN_FLAMINGO, "question", "red, blue", "red", False),
        (OPEN_FLAMINGO, "question", " red, ", "red", False),
        (PAPER, "caption", " an Output device Output: a cat", "an Output device", True),
        (OPEN_FLAMINGO, "caption", 'an "old" Output device', "an old", True),
        (PAPER, "caption", ' a sign that says "stop"', 'a sign that says "stop"', False),
        (PAPER, "caption", " a dog\r\nin snow", "a dog  in snow", False),
        (PAPER, "question", "<EOC>Question: why?", "", False),
        (PAPER, "continue", "\n dax\nThis is a", "dax", False),
        (PAPER, "caption", " \u2028 ", "", False),
    ],
)
def test_cases(profile, kind, raw, text, by_keyword):
    """The traps of keywords without colons, lists, line breaks and empty answers."""
    assert profile.clean(kind, raw) == Cleaned(text, by_keyword)


def test_the_first_of_several_keywords_ends_an_answer():
    """Whatever their order in the template."""
    template = PromptTemplate(before="", gap="", keywords=("b:", "a:"))
    assert clean_up("x a: y b: z", template) == Cleaned("x", by_keyword=True)
