"""Gopher's rules: each drops what it is about, as a naive count says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped, InterleavedDocument
from flamingo_blocks.data.filters import GopherQuality, GopherRepetition, document_text

PROSE = (
    "It was late in the year when we came to the house by the river, and the people that lived there had little to "
    "say to us. They gave us bread and a bed, and in the morning the eldest of them went with us to be sure that we "
    "would find the road. I have never been there again, but of all the places I know it is the one I think of most."
)
WORDS = PROSE.split()


def document(text):
    return InterleavedDocument.from_parts([text])


QUALITY = {
    "words": " ".join(WORDS[:40]),
    "word_length": PROSE.replace(" ", " a a o o u u "),
    "symbols": PROSE.replace(" the ", " # the "),
    "bullets": "\n".join(f"- {PROSE[k : k + 60]}" for k in range(0, 300, 60)),
    "ellipsis": "\n".join(f"{PROSE[k : k + 60]}..." for k in range(0, 300, 60)),
    "alpha": PROSE + " 1000 20.5 3000 4000" * 8,
    "stop_words": " ".join(word for word in WORDS * 2 if word.strip(".,").lower() not in GopherQuality().stop_words),
}


@pytest.mark.parametrize(("reason", "text"), QUALITY.items(), ids=QUALITY)
def test_what_is_no_prose_is_dropped_for_its_reason(reason, text):
    """Each rule by a text that the others take."""
    found = GopherQuality()(document(text))
    assert isinstance(found, Dropped)
    assert found.reason == reason


def test_prose_is_kept_as_it_is():
    """The very document."""
    kept = InterleavedDocument.from_parts([PROSE[:100], b"image", PROSE[100:]])
    for keep in (GopherQuality(), GopherRepetition()):
        assert keep(kept) is kept


def test_words_are_those_that_say_something():
    """Punctuation alone is none, in any script."""
    assert GopherQuality(min_words=2).judge("cat -- … 、 ! $").reason == "words"
    assert GopherQuality(min_words=2, min_letters=0, min_stop_words=0, min_word_length=0).judge("猫 犬") is None


def test_stop_words_are_read_in_any_case():
    """And with what stands behind them."""
    text = "THE CAT, Of, course, sits here always waiting"
    assert GopherQuality(min_words=1).judge(text) is None


@pytest.mark.parametrize("text", ["", " \n ", "...", "-"])
def test_texts_of_nothing_have_too_few_words(text):
    """And divide nothing by nothing."""
    assert GopherQuality().judge(text).reason == "words"
    anything = {"min_words": 0, "min_letters": 0, "min_stop_words": 0, "max_symbols": 9, "max_bullets": 1}
    assert GopherQuality(**anything, max_ellipses=1).judge(text) is None
    assert GopherRepetition().judge(text) is None


PIECES = ["a", "bb", "ccc", "the", "\n", "\n\n", "a bb ccc the a bb"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)
OFF = {"max_paragraphs": 1, "max_lines": 1, "max_paragraph_characters": 1, "max_line_characters": 1}


@given(TEXTS, st.integers(1, 6), st.floats(0, 1))
def test_repeated_runs_are_counted_as_by_a_mask(text, n, limit):
    """A character is repeated once, however many repeated runs it stands in."""
    words = text.split()
    covered, seen = [False] * len(words), set()
    for place in range(len(words) - n + 1):
        run = tuple(words[place : place + n])
        if run in seen:
            covered[place : place + n] = [True] * n
        seen.add(run)
    share = sum(len(w) for w, c in zip(words, covered, strict=True) if c) / max(sum(map(len, words)), 1)
    found = GopherRepetition(**OFF, top_ngrams={}, duplicate_ngrams={n: limit}).judge(text)
    assert (found is not None) == (share > limit)
    assert found is None or found.reason == f"duplicate_{n}"


@given(TEXTS, st.integers(1, 4), st.floats(0, 1))
def test_the_most_frequent_run_is_found(text, n, limit):
    """One that stands once is none."""
    words = text.split()
    counts = Counter(tuple(words[place : place + n]) for place in range(len(words) - n + 1))
    most = max(counts.values(), default=0)
    size = max((len("".join(run)) for run, count in counts.items() if count == most), default=0) if most > 1 else 0
    found = GopherRepetition(**OFF, top_ngrams={n: limit}, duplicate_ngrams={}).judge(text)
    assert (found is not None) == (size * most > limit * max(len("".join(words)), 1) + 1e-9)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("one two\n\nsix ten\n\none two\n\none two", "duplicate_paragraphs"),
        (
            "a b\n\nc d\n\ne f\n\n" + 2 * "a very long paragraph, here twice\n\n",
            "duplicate_paragraphs_characters",
        ),
        ("one two\nsix ten\none two\none two", "duplicate_lines"),
        ("a b\nc d\ne f\n" + 2 * "a very long line that stands here twice\n", "duplicate_lines_characters"),
        ("no cat no cat no cat sat on the mat and went away again", "top_2"),
    ],
)
def test_what_repeats_itself_is_dropped_for_its_reason(text, reason):
    """Paragraphs, lines, and runs of words."""
    assert GopherRepetition().judge(text).reason == reason


def test_reasons_are_declared():
    """What a filter may say is known before it is run."""
    assert set(QUALITY) == set(GopherQuality.reasons)
    assert GopherRepetition().reasons == (
        "duplicate_paragraphs", "duplicate_paragraphs_characters", "duplicate_lines", "duplicate_lines_characters",
        "top_2", "top_3", "top_4", *(f"duplicate_{n}" for n in range(5, 11)),
    )  # fmt: skip
    with pytest.raises(ValueError, match="runs of 0 words were named, wanted 1 or more"):
        GopherRepetition(top_ngrams={0: 0.5})


@given(TEXTS, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_limit_keeps_no_less(text, one, other):
    """Filters are monotone in their limits."""
    narrow, wide = sorted((one, other))
    if GopherRepetition(max_lines=narrow).judge(text) is None:
        assert GopherRepetition(max_lines=wide).judge(text) is None
    options = {"min_words": 0, "min_stop_words": 0, "min_letters": 0, "max_bullets": 1}
    if GopherQuality(max_symbols=narrow, min_word_length=0, **options).judge(text) is None:
        assert GopherQuality(max_symbols=wide, min_word_length=0, **options).judge(text) is None


def test_an_image_ends_a_paragraph():
    """So texts on both sides are no one line."""
    parts = InterleavedDocument.from_parts(["one two", b"image", "one two"])
    assert document_text(parts) == "one two\n\none two"
