"""What is there more than once, to the letter: which stays, and what counts as the same."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import Dropped, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.addresses import address
from flamingo_blocks.data.dedup import ExactDuplicates, FrequentParts, RepeatedImages, canonical_text
from flamingo_blocks.data.dedup.keys import age_rank
from flamingo_blocks.data.filtered import Filtered


def kept(finder, *documents):
    """The numbers of the documents that stay."""
    named = [(str(number), document) for number, document in enumerate(documents)]
    duplicates = finder.merge([finder.signatures(named)])
    return [int(key) for key, document in named if not isinstance(duplicates.filter(key, document), Dropped)]


def document(*parts, **metadata):
    return InterleavedDocument.from_parts(parts, metadata=metadata)


@given(st.text())
def test_a_canonical_text_is_canonical(text):
    """Making it twice changes nothing, and words are one space apart."""
    once = canonical_text(text)
    assert canonical_text(once) == once
    assert once.split() == (once.split(" ") if once else [])
    assert canonical_text(f" -{text}…") == once


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat,  cat!", "cat cat"), ("ﬁsh", "FISH"), ("Straße", "STRASSE"), ("cafe\u0301", "café"), ("a_b", "a b"),
     ("\uff11\uff12", "12"), ("हिन्दी।", "हिन्दी"), ("\u0130", "i\u0307")],
)  # fmt: skip
def test_texts_that_say_the_same_are_written_the_same(one, other):
    """Whatever case, width, ligatures and punctuation."""
    assert canonical_text(one) == canonical_text(other)
    assert kept(ExactDuplicates("text"), document(one), document(other)) == [0]


@pytest.mark.parametrize(
    ("one", "other"), [("cat", "cats"), ("कि", "की"), ("a b", "ab"), ("resume", "résumé"), ("1", "2")]
)
def test_texts_that_say_something_else_are_not(one, other):
    """Vowel signs and accents included."""
    assert kept(ExactDuplicates("text"), document(one), document(other)) == [0, 1]


def test_texts_are_those_of_the_whole_document():
    """Images do not count, but end a word."""
    finder = ExactDuplicates("text")
    assert kept(finder, document("one two"), document("one", b"image", "two"), document("onetwo")) == [0, 2]
    assert kept(finder, document("", b"image"), document("...")) == [0, 1]


@pytest.mark.parametrize("by", ["url", "images"])
def test_the_newest_stays_where_dates_are_told(by):
    """As strings, times or seconds; a document without one is older than any."""
    dates = [None, "2024-01-01", "2024-05-01T12:00:00+02:00", datetime(2024, 5, 1, 11, tzinfo=UTC), 1.0e9, "soon"]
    pages = [
        document("x", ImageSegment(url="https://ex.com/a.jpg"), url="https://ex.com/", date=date) for date in dates
    ]
    assert kept(ExactDuplicates(by), *pages) == [3]
    assert kept(ExactDuplicates(by), pages[0], pages[5]) == [0]
    assert kept(ExactDuplicates("text"), *pages) == [0]


def test_dates_without_a_zone_are_those_of_greenwich(monkeypatch):
    """Wherever the machine stands."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert age_rank("2024-05-01T00:00:00") == age_rank("2024-05-01T00:00:00Z") == age_rank(1714521600)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("date", [None, "", "soon", [], float("nan"), 1e300, datetime.max, True])  # noqa: DTZ901
def test_odd_dates_are_no_error(date):
    """Whatever stands there."""
    assert isinstance(age_rank(date), int)
    assert abs(age_rank(date)) < 2**63


@pytest.mark.parametrize(
    ("url", "same"),
    [("https://EX.com/A#top", "https://ex.com/A"), ("http://[bad", "http://[bad"), ("", None), (None, None), (3, None)],
)
def test_addresses_are_compared_without_what_does_not_count(url, same):
    """Case of the host and the place on the page; whatever is no address is compared as it is, or not at all."""
    assert address(url) == same


def test_sets_of_images_have_no_order():
    """And no repeats; documents without images have no set."""
    a, b = (ImageSegment(url=f"https://ex.com/{name}.jpg") for name in "ab")
    finder = ExactDuplicates("images")
    assert kept(finder, document(a, "x", b), document(b, b, a), document(a), document("y"), document("z")) == [
        0,
        2,
        3,
        4,
    ]


def test_images_are_told_by_what_they_hold():
    """Bytes of any kind, and pictures; the first place of the least document stays, and texts around the others are
    paragraphs apart.
    """
    picture = Image.radial_gradient("L")
    first = document("x", b"cat", "y", b"dog", picture)
    again = ImageSegment(data=bytearray(b"cat"))
    second = document("one", again, "two", b"bird", "three", b"cat", picture.copy(), picture.convert("RGB"))
    finder = ExactDuplicates("image")
    duplicates = finder.merge([finder.signatures([("b", second)]), finder.signatures([("a", first)])])
    assert duplicates.filter_items("a", first) == Filtered(first)
    result = duplicates.filter_items("b", second)
    left = result.document
    assert left.segments[0] == TextSegment("one\n\ntwo")
    assert left.media == (second.segments[3], second.segments[7])
    assert result.removed == (Dropped("duplicate_image", "as in 'a'"),) * 3
    assert duplicates.num_removed == 3


def test_texts_that_stood_side_by_side_stay_so():
    """Only where something was taken from between them they are put together."""
    page = document("a", "b", b"cat", "c", b"cat", "d", "e")
    finder = ExactDuplicates("image")
    left = finder.merge([finder.signatures([("a", page)])]).filter("a", page)
    assert left == document("a", "b", b"cat", "c\n\nd", "e")


def test_an_image_twice_in_a_document_stays_once():
    """Its first place."""
    page = document(b"cat", "x", b"cat", "y")
    finder = ExactDuplicates("image")
    left = finder.merge([finder.signatures([("a", page)])]).filter("a", page)
    assert left.segments[0].data == b"cat"
    assert left.text == "x\n\ny"


def test_frequent_images_go_from_everywhere():
    """Above ten times, by default, and not at ten."""
    often, seldom = (ImageSegment(url=f"https://ex.com/{name}.png") for name in ("logo", "cat"))
    pages = [(str(number), document(often, "x", seldom if number else often)) for number in range(11)]
    finder = FrequentParts("image_url")
    table = finder.merge([finder.signatures(pages[:3]), finder.signatures(pages[3:])])
    assert table.num_removed == 12
    assert [len(table.filter(*page).media) for page in pages] == [0, *[1] * 10]


def test_frequent_paragraphs_are_counted_by_host():
    """Above two times on one host; elsewhere they stay, and where no host is told."""
    text = "Share this!\n\nOnce {}"
    pages = [document(text.format(n), url="https://a.com/") for n in range(2)]
    pages += [
        document("SHARE this", url="https://A.com:80/x"),
        document(text, url="https://b.com"),
        *[document(text)] * 3,
    ]
    named = [(str(number), page) for number, page in enumerate(pages)]
    finder = FrequentParts("paragraph")
    table = finder.merge([finder.signatures(named)])
    left = [table.filter(*page) for page in named]
    assert [page.text for page in left[:3]] == ["Once 0", "Once 1", ""]
    assert left[2].segments == ()
    assert left[3:] == pages[3:]


def test_repeated_images_go_from_a_document():
    """By address or content, of what stays; twice is once."""
    parts = [("1", b"x"), ("1", b"y"), ("2", b"y"), ("3", None), ("3", None), (None, b"y"), (None, None), (None, None)]
    page = document(*(ImageSegment(url=url, data=data) for url, data in parts))
    result = RepeatedImages().filter_items(page)
    left = result.document
    assert [(image.url, image.data) for image in left.media] == [parts[0], parts[2], parts[3], parts[6], parts[7]]
    assert result.removed == (Dropped("repeated_image"),) * 3
    assert RepeatedImages()(left) is left


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda: ExactDuplicates("title"), "by is 'title', wanted one of 'text', 'url', 'images', 'image'"),
     (lambda: FrequentParts("word"), "of is 'word', wanted one of 'image_url', 'paragraph'"),
     (lambda: FrequentParts("paragraph", most=0), "most is 0, wanted 1 or more")],
)  # fmt: skip
@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told(make, said):
    """With the value and what was wanted."""
    with pytest.raises(ValueError, match=said):
        make()
