"""Windows are runs of a document in which every tag keeps its item and every token what it saw, or nothing."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment, TokenizedDocument, document_labels
from flamingo_blocks.data.examples import cut_document, draw_window
from tests.data.examples.pages import EOC, PAPER, TAG, WIDE, next_tags, parts, previous_tags, specials, tokens_of

ONE, TWO = ImageSegment(url="one"), ImageSegment(url="two")

draws = st.floats(0, 1, exclude_max=True)


def legal_cuts(tokenized, special):
    """Places where a document may be cut: not inside of a tag."""
    width = len(special.media_ids)
    inside = {tag + offset for tag in tokenized.tags for offset in range(1, width)}
    return [place for place in range(len(tokenized.ids) + 1) if place not in inside]


@given(parts, specials, st.data())
def test_the_windows_of_a_partition_are_the_document(page, special, data):
    """Cut anywhere outside of tags and put together again, a document is the same, and so are its labels."""
    whole = tokens_of(page, special)
    cuts = legal_cuts(whole, special)
    inner = data.draw(st.sets(st.sampled_from(cuts), max_size=4))
    edges = [0, *sorted(inner), len(whole.ids)]
    labels = document_labels(whole, special=special, mask_between_chunks=True)
    ids, tags, media, inserted, cut_labels = [], [], [], set(), []
    for start, stop in pairwise(edges):
        window = range(start, stop)
        part = cut_document(whole, window, special=special)
        tags += [len(ids) + tag for tag in part.tags]
        inserted |= {len(ids) + place for place in part.inserted}
        ids += part.ids
        media += part.media
        cut_labels += labels[window.start : window.stop]
    assert TokenizedDocument(tuple(ids), tuple(tags), tuple(media), frozenset(inserted)) == whole
    assert tuple(cut_labels) == labels


@given(parts, specials, st.integers(3, 30), draws, st.none() | st.integers(1, 3), st.booleans())
def test_a_window_is_a_run_that_cuts_no_tag(page, special, length, draw, max_media, needs_media):
    """A window is a run of the tokens, of the length asked for or less, and every tag of it is whole."""
    whole = tokens_of(page, special)
    needs_media = needs_media and bool(whole.tags)
    window = draw_window(whole, length=length, special=special, draw=draw, max_media=max_media, needs_media=needs_media)
    part = cut_document(whole, window, special=special)
    assert part.ids == whole.ids[window.start : window.stop]
    assert len(part.ids) <= length
    assert len(part.tags) == len(part.media) <= (max_media or len(whole.tags))
    assert window.start in legal_cuts(whole, special)
    assert not needs_media or part.media
    width = len(special.media_ids)
    assert all(part.ids[tag : tag + width] == special.media_ids for tag in part.tags)


@given(parts, specials, st.integers(3, 30), draws, st.none() | st.integers(1, 3))
def test_a_window_is_as_long_as_may_be(page, special, length, draw, max_media):
    """What ends a window early is a tag that does not fit or has no room left, and nothing else."""
    whole = tokens_of(page, special)
    window = draw_window(whole, length=length, special=special, draw=draw, max_media=max_media)
    if len(whole.ids) <= length:
        assert window.start == 0
    if len(window) < min(length, len(whole.ids)):
        following = whole.tags.index(window.stop)
        inside = sum(tag in window for tag in whole.tags)
        assert inside == max_media or whole.tags[following] + len(special.media_ids) > window.start + length


@given(parts, specials, st.integers(3, 30), draws, st.none() | st.integers(1, 3))
def test_a_token_sees_what_it_saw_in_the_document_or_nothing(page, special, length, draw, max_media):
    """Phi in the window is phi in the document, counted from the window's first item, or none; in both directions."""
    whole = tokens_of(page, special)
    window = draw_window(whole, length=length, special=special, draw=draw, max_media=max_media)
    part = cut_document(whole, window, special=special)
    for look in (previous_tags, next_tags):
        before = look(whole)[window.start : window.stop]
        for seen_in_window, seen_in_document in zip(look(part), before, strict=True):
            seen = None if seen_in_window < 0 else part.media[seen_in_window]
            assert seen is None or seen is whole.media[seen_in_document]
    first = next((k for k, tag in enumerate(whole.tags) if tag in window), 0)
    assert all(kept is whole.media[first + k] for k, kept in enumerate(part.media))


@given(parts, specials, st.integers(3, 12), st.booleans())
def test_every_start_is_as_likely_as_another(page, special, length, needs_media):
    """Draws spread evenly give every place outside of tags, from which a full window can be cut, the same share."""
    whole = tokens_of(page, special)
    needs_media = needs_media and bool(whole.tags)
    latest = max(len(whole.ids) - length, 0)
    width = len(special.media_ids)
    starts = [place for place in legal_cuts(whole, special) if place <= latest]
    if needs_media:
        starts = [s for s in starts if any(s <= tag and tag + width <= s + length for tag in whole.tags)]
    number = 4 * len(starts)
    drawn = Counter(
        draw_window(whole, length=length, special=special, draw=(index + 0.5) / number, needs_media=needs_media).start
        for index in range(number)
    )
    assert drawn == dict.fromkeys(starts, 4)


def test_the_text_behind_an_item_too_many_is_not_in_the_window():
    """The window ends before the tag of the first item that is dropped; the end of the chunk before it stays."""
    whole = TokenizedDocument((1, EOC, TAG, 2, EOC, TAG, 3, EOC), (2, 5), (ONE, TWO))
    window = draw_window(whole, length=8, special=PAPER, draw=0.0, max_media=1)
    assert cut_document(whole, window, special=PAPER) == TokenizedDocument((1, EOC, TAG, 2, EOC), (2,), (ONE,))


def a_page():
    return TokenizedDocument((1, *WIDE.media_ids, 2), (1,), (ONE,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(length=2), "length is 2, wanted the 3 tokens of a tag"),
        (dict(max_media=0), "max_media is 0, wanted 1 or more"),
        (dict(draw=1.0), r"draw is 1\.0, wanted a number from 0 to 1"),
    ],
)
def test_windows_that_cannot_be_are_refused(options, message):
    """The error names the argument and what it may be."""
    with pytest.raises(ValueError, match=message):
        draw_window(a_page(), **{"length": 5, "special": WIDE, "draw": 0.0} | options)


def test_an_item_where_there_is_none_is_refused():
    """A document without items has no window with one."""
    with pytest.raises(ValueError, match="needs_media is True, but the document has no item"):
        draw_window(TokenizedDocument((1, 2), (), ()), length=2, special=PAPER, draw=0.0, needs_media=True)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (range(3), r"range\(0, 3\), which cuts the tag at 1 to 4 in half"),
        (range(2, 5), r"range\(2, 5\), which cuts the tag at 1 to 4 in half"),
        (range(6), r"range\(0, 6\), wanted positions .* below 5"),
        (range(-1, 2), r"range\(-1, 2\), wanted positions"),
        (range(0, 4, 2), r"range\(0, 4, 2\), wanted positions one after the other"),
    ],
)
def test_cuts_through_a_tag_or_beyond_the_document_are_refused(window, message):
    """A tag stays whole, and there is nothing behind the end."""
    with pytest.raises(ValueError, match=message):
        cut_document(a_page(), window, special=WIDE)
