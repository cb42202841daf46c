"""Texts are changed where it was asked for, and tags never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.examples import AugmentText, KeyedDraws
from tests.data.examples.pages import page_of, parts

texts = st.text(st.sampled_from("aB. \n\t<EOC>image"), max_size=20)
chances = st.sampled_from([0.0, 0.5, 1.0])


@given(parts, st.integers(0, 99))
def test_nothing_is_changed_unless_it_is_asked_for(page, key):
    """Every chance is 0 by default."""
    document = page_of(page)
    assert AugmentText().document(document, KeyedDraws(key)) == document.merged()


@given(texts, chances, chances, chances, st.integers(0, 99))
def test_only_case_spaces_and_the_last_full_stop_change(text, letter, stop, spaces, key):
    """Without spaces, case and a full stop at the end, the text is what it was; tags in it are counted the same."""
    changed = AugmentText(first_letter=letter, full_stop=stop, spaces=spaces).text(text, KeyedDraws(key))

    def bare(text):
        return "".join(text.split()).lower().rstrip(".")

    assert bare(changed) == bare(text)
    for tag in ("<EOC>", "<image>"):
        assert changed.count(tag) == text.count(tag)


@given(parts, st.integers(0, 99))
def test_media_stay_where_they_are(page, key):
    """Items and the places between texts are the same as before."""
    document = page_of(page).merged()
    changed = AugmentText(first_letter=0.5, full_stop=0.5, spaces=0.5).document(document, KeyedDraws(key))
    assert [type(segment) for segment in changed.segments] == [type(segment) for segment in document.segments]
    assert all(one is two for one, two in zip(changed.media, document.media, strict=True))


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        (dict(first_letter=1.0), " A cat", " a cat"),
        (dict(first_letter=1.0), "a cat", "A cat"),
        (dict(first_letter=1.0), "<EOC>", "<EOC>"),
        (dict(first_letter=1.0), "ß", "ß"),
        (dict(first_letter=1.0), "", ""),
        (dict(full_stop=1.0), "A cat.\n", "A cat\n"),
        (dict(full_stop=1.0), "A cat...", "A cat..."),
        (dict(full_stop=1.0), "A cat", "A cat"),
        (dict(spaces=1.0), " a\n\n b\t", " a b "),
    ],
)
def test_what_each_change_does(options, before, after):
    """One change at a time."""
    assert AugmentText(**options).text(before, KeyedDraws(0)) == after


def test_every_run_of_text_has_draws_of_its_own():
    """Two texts of one document are not changed alike."""
    half = AugmentText(first_letter=0.5)
    changed = [half.document(page_of(["a", "<image>"] * 8), KeyedDraws(0)).text]
    assert set(changed[0]) == {"a", "A"}


def test_a_chance_beyond_its_bounds_is_refused():
    """A chance lies from 0 to 1."""
    with pytest.raises(ValueError, match="full_stop is 2, wanted a chance from 0 to 1"):
        AugmentText(full_stop=2)
