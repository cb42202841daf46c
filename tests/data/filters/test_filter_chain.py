"""Filters one after another, limits of texts, and the two presets."""

import pickle
from collections import Counter
from dataclasses import replace
from math import isqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped, ImageSegment, InterleavedDocument
from flamingo_blocks.data.filters import (
    OBELICS_DOCUMENT,
    OBELICS_PARAGRAPH,
    DeclaredSize,
    FilterChain,
    FilterCounts,
    GopherQuality,
    GopherRepetition,
    LimitedText,
    TextLimits,
    UrlWords,
    WordLists,
    m3w_preset,
    obelics_preset,
)
from flamingo_blocks.data.filters.text_limits import character_repetition, punctuation, word_repetition, words_of
from tests.data.filters.test_document_images import GOOD, SMALL
from tests.data.filters.test_gopher import PROSE

PAGES = st.lists(st.one_of(st.none(), st.lists(st.sampled_from(["a", "bb cc", "logo", "tom"]), max_size=4)), max_size=8)


def document_of(parts):
    if parts is None:
        return Dropped("depth")
    return InterleavedDocument.from_parts(
        [ImageSegment(url=part) if part in ("logo", "tom") else part for part in parts]
    )


def has_text(document):
    return document if document.text else Dropped("no_text")


def short(document):
    return document if len(document.text) < 6 else Dropped("long")


CHAIN = FilterChain([has_text, UrlWords(), FilterChain([short, GopherQuality(min_words=1, min_stop_words=0)])])


@given(PAGES, st.integers(0, 8))
def test_kept_and_dropped_are_what_went_in(pages, cut):
    """For any parts of the documents, whose counts add up to those of the whole, in a worker or here."""
    documents = [document_of(parts) for parts in pages]
    chain = pickle.loads(pickle.dumps(CHAIN))  # noqa: S301 - our own
    counts = FilterCounts()
    kept = list(chain.run(documents, counts))
    assert counts.documents.total() == len(documents)
    assert counts.documents["kept"] == len(kept)
    assert counts.documents["depth"] == sum(isinstance(one, Dropped) for one in documents)
    together, parts = FilterCounts(), []
    for some in (documents[:cut], documents[cut:]):
        part = FilterCounts()
        parts += list(CHAIN.run(some, part))
        together.update(part)
    assert (together, parts) == (counts, kept)
    assert kept == list(CHAIN.run(kept, FilterCounts()))
    assert counts.items["kept"] == sum(len(document.media) for document in kept)
    expected = Counter()
    for document in documents:
        if isinstance(document, Dropped):
            continue
        left = has_text(document)
        if not isinstance(left, Dropped):
            result = UrlWords().filter_items(document)
            expected.update(one.reason for one in result.removed)
    assert counts.items - Counter(kept=counts.items["kept"]) == expected


def test_a_chain_declares_what_its_filters_may_say():
    """Once each; and stops at the first that drops."""
    assert CHAIN.reasons == ("url_word", *GopherQuality.reasons)
    assert CHAIN.item_reasons == ("url_word",)

    def never(document):
        raise AssertionError

    assert FilterChain([has_text, never])(InterleavedDocument(())).reason == "no_text"
    assert FilterChain([])(InterleavedDocument(())) == InterleavedDocument(())


WORDS = st.lists(st.sampled_from(["a", "the", "cat.", "Tom's", "2", "--", "a,b"]), max_size=25)


@given(WORDS.map(" ".join))
def test_shares_are_counted_as_they_are_told(text):
    """Beside a count of everything."""
    words = words_of(text)
    assert words == [word.strip(" .,-2").lower() for word in text.split() if word.strip(" .,-2")]
    runs = [tuple(words[k : k + 5]) for k in range(len(words) - 4)]
    repeated = sum(runs.count(run) > 1 for run in runs)
    assert word_repetition(words) == pytest.approx(repeated / max(len(runs), 1))
    pieces = [text[k : k + 10] for k in range(len(text) - 9)]
    counts = sorted((pieces.count(piece) for piece in set(pieces)), reverse=True)
    most = [count for count in counts[: isqrt(len(counts))] if count > 1]
    assert character_repetition(text) == pytest.approx(sum(most) / max(len(pieces), 1))
    signs = sum(text.count(sign) for sign in ".,")
    tokens = signs + sum(len(word.replace(",", " ").strip(".-").split()) for word in text.split())
    assert punctuation(text) == pytest.approx(signs / max(tokens, 1))
    assert punctuation(text, tokens + 1) == 1


def test_of_many_repeated_runs_the_most_frequent_count():
    """As many as the square root of their number: five of twenty-six."""
    assert character_repetition("abcdefghijklmnopqrstuvwxyz" * 2) == pytest.approx(5 * 2 / 43)


STOP = ("the", "a", "is", "there", "therefore")
LISTS = WordLists(stop=STOP, flagged=("xxx",), common=(*STOP, "cat"))
REASONS = {
    "words": ({"min_words": 3}, "cat cat"),
    "character_repetition": ({"max_character_repetition": 0.1}, "x" * 99),
    "word_repetition": ({"max_word_repetition": 0.1}, "a b c d e " * 5),
    "special_characters": ({"max_special": 0.3}, "a 1 2 3 4"),
    "stop_words": ({"min_stop": 0.5}, "big cat sat there"),
    "flagged_words": ({"max_flagged": 0.1}, "a XXX! cat"),
    "punctuation": ({"min_punctuation": 0.1}, "no stop at all"),
    "common_words": ({"min_common": 0.8}, "the kat"),
    "perplexity": ({"max_perplexity": 100}, "kat"),
}


def perplexity(text):
    return 1000.0 * ("kat" in text)


@pytest.mark.parametrize("reason", TextLimits.reasons)
def test_each_limit_has_its_reason(reason):
    """And lets through what keeps to it, by paragraph as well."""
    limits, text = REASONS[reason]
    keep = LimitedText(TextLimits(**limits), lists=LISTS, perplexity=perplexity)
    assert keep(InterleavedDocument.from_parts([text])).reason == reason
    by_paragraph = LimitedText(TextLimits(), paragraph=TextLimits(**limits), lists=LISTS, perplexity=perplexity)
    good = "Therefore, the cat is there."
    document = InterleavedDocument.from_parts([f"{text}\n\n{good}", SMALL, text])
    result = by_paragraph.filter_items(document)
    assert [one.reason for one in result.removed] == [f"paragraph_{reason}"] * 2
    assert result.document.segments[0].text == good
    assert len(result.document.segments) == 2
    assert by_paragraph.filter_items(result.document).document is result.document
    assert TextLimits().judge(text) is None


@pytest.mark.parametrize(
    ("limits", "match"),
    [({"min_stop": 0.3}, "min_stop is 0.3, which needs a list of words"), ({"max_flagged": 0.1}, "max_flagged is 0.1"),
     ({"min_common": 0.3}, "min_common is 0.3"), ({"max_perplexity": 9}, "max_perplexity is 9, which needs a func")],
)  # fmt: skip
def test_a_limit_without_its_list_is_told(limits, match):
    """Before any document is lost to it."""
    with pytest.raises(ValueError, match=match):
        LimitedText(TextLimits(**limits))
    with pytest.raises(ValueError, match=match):
        LimitedText(TextLimits(), paragraph=TextLimits(**limits))
    with pytest.raises(ValueError, match=match):
        TextLimits(**limits).judge("text")


@given(
    WORDS.map(" ".join),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(sorted(set(REASONS) - {"words", "perplexity"})),
)
def test_a_wider_limit_keeps_no_less(text, one, other, reason):
    """Limits are monotone."""
    [name] = REASONS[reason][0]
    narrow, wide = sorted((one, other), reverse=name.startswith("min"))
    if TextLimits(**{name: narrow}).judge(text, LISTS) is None:
        assert TextLimits(**{name: wide}).judge(text, LISTS) is None


PAGE = InterleavedDocument.from_parts([PROSE, ImageSegment(url="https://ex.com/tom.jpg", data=GOOD)])


def english(text):
    return ("de", 0.99) if "nicht" in text else ("en", 0.99)


def test_m3w_is_the_order_of_the_paper():
    """Each kind of page goes for its own reason, and a good one stays."""
    chain = m3w_preset(judge=lambda images: [0.0] * len(images), explicit_words=("badword",), identify=english)
    assert [type(keep).__name__ for keep in chain.filters] == [
        "Language", "ExplicitContent", "DocumentImages", "GopherQuality", "GopherRepetition", "DocumentImages",
    ]  # fmt: skip
    assert chain(PAGE) is PAGE
    bad = {
        "language": [PROSE + " nicht", GOOD], "explicit_text": [PROSE + " badword", GOOD], "no_images": [PROSE],
        "words": ["Tom", GOOD], "duplicate_lines": [f"{PROSE}\n{PROSE}", GOOD],
    }  # fmt: skip
    for reason, parts in bad.items():
        assert chain(InterleavedDocument.from_parts(parts)).reason == reason
    assert chain(InterleavedDocument.from_parts([PROSE, SMALL])).reason == "no_images"
    strict = m3w_preset(judge=lambda images: [0.9] * len(images), threshold=0.8, identify=english)
    assert strict(PAGE).reason == "explicit_image"
    assert strict(replace(PAGE, segments=())).reason == "no_images"


@pytest.mark.parametrize("preset", ["m3w", "obelics"])
def test_a_preset_in_two_parts_is_the_preset(preset):
    """What needs no file of an image first, the rest when they are there."""
    options = {"identify": english, "judge": lambda images: [0.0] * len(images)}
    if preset == "m3w":
        make, options = m3w_preset, {**options, "explicit_words": ("badword",)}
    else:
        make, options = obelics_preset, {**options, **OBELICS_LISTS}
    page, images, whole = (make(part=part, **options) for part in ("page", "images", "all"))
    assert {type(keep) for keep in (*page.filters, *images.filters)} == {type(keep) for keep in whole.filters}
    unfetched = InterleavedDocument.from_parts([PROSE, ImageSegment(url="https://ex.com/tom.jpg")])
    assert page(unfetched) is unfetched
    assert images(unfetched).reason == "no_images"
    with pytest.raises(Exception, match="part"):
        make(part="half", **options)


OBELICS_LISTS = {
    "stop_words": tuple(words_of("it was in the we to by and that there had they us a of with be would i have never")),
    "flagged_words": ("badword",),
    "common_words": tuple(words_of(PROSE)),
    "perplexity": perplexity,
}


def test_obelics_is_stricter():
    """By its own limits, which are arguments; its lists and models are not shipped."""
    from PIL import Image

    from tests.data.filters.test_document_images import file_of, noise

    good = file_of(noise(160, 200))
    chain = obelics_preset(identify=english, **OBELICS_LISTS)
    assert isinstance(chain(InterleavedDocument.from_parts([PROSE, good])), InterleavedDocument)
    gif = file_of(noise(200, 200).quantize(8), "GIF")
    for image, reason in ((GOOD, "image_small"), (file_of(noise(160, 330)), "image_ratio"), (gif, "image_format")):
        result = chain.filter_items(InterleavedDocument.from_parts([PROSE, image]))
        assert [one.reason for one in result.removed] == [reason]
        assert result.document.reason == "no_images"
    flat = file_of(Image.new("RGB", (200, 200)))
    assert isinstance(chain(InterleavedDocument.from_parts([PROSE, flat])), InterleavedDocument)
    assert chain(InterleavedDocument.from_parts([PROSE, *[good] * 31])).reason == "too_many_images"
    menu = chain.filter_items(InterleavedDocument.from_parts(["Home\n\n" + PROSE, good]))
    assert [one.reason for one in menu.removed] == ["paragraph_words"]
    for missing in ("stop_words", "flagged_words", "common_words", "perplexity"):
        with pytest.raises(ValueError, match="and none is given or shipped; without it, set it to"):
            obelics_preset(**{**OBELICS_LISTS, missing: None})
    assert (OBELICS_PARAGRAPH.min_words, OBELICS_DOCUMENT.max_perplexity) == (4, 1500)
    assert GopherRepetition()(PAGE) is PAGE


PIECES = ("bbbba!", "cat dog!\n", "a\n\n1bb", "\n\nTom sleeps.", "12 34", "a\n\n\n\nb", " ", "Mia, the cat, ran.")
IMAGES = (
    ImageSegment(url="https://ex.com/logo.png"),
    ImageSegment(url="https://ex.com/tom.png"),
    ImageSegment(url="https://ex.com/b.png", metadata={"declared_width": 20, "declared_height": 20}),
)


@given(
    st.lists(st.sampled_from(PIECES) | st.sampled_from(IMAGES), max_size=8),
    st.permutations(range(3)),
    st.sampled_from([0.2, 0.34, 0.5]),
)
@example(parts=["bbbba!", "cat dog!\n", IMAGES[0], "a\n\n1bb"], order=[2, 0, 1], special=0.34)
def test_a_chain_applied_twice_is_a_chain_applied_once(parts, order, special):
    """What is left is left by a second run, whichever filter comes first: gaps that a removal leaves part as before."""
    paragraph = TextLimits(min_words=1, max_special=special)
    filters = [
        UrlWords(),
        DeclaredSize(min_px=150, max_px=20_000, max_ratio=2.0),
        LimitedText(TextLimits(), paragraph=paragraph),
    ]
    chain = FilterChain([filters[place] for place in order])
    once = chain.filter_items(InterleavedDocument.from_parts(parts)).document
    again = chain.filter_items(once)
    assert again.document == once
    assert again.removed == ()
