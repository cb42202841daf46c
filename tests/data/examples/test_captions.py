"""Examples of pairs: the paper's layout of a caption, a space before half of them, and an end that is never cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment, InterleavedDocument, SpecialTokens
from flamingo_blocks.data.examples import AugmentText, CaptionExamples
from tests.data.examples.pages import BOS, EOC, EOS, LETTERS, PAPER, TAG, WIDE, numbers_of, picture, pixels_of, specials

captions = st.text(st.sampled_from("abc. "), min_size=1, max_size=12).filter(str.strip)


def maker(special=PAPER, **options):
    return CaptionExamples(**{"tokenizer": LETTERS, "special": special, "preprocess": pixels_of} | options)


def a_pair(caption, *, image_first=True):
    parts = [ImageSegment(data=picture(4)), caption]
    return InterleavedDocument.from_parts(parts if image_first else parts[::-1])


@given(captions, specials, st.booleans(), st.integers(0, 99), st.integers(8, 20))
def test_a_pair_is_written_as_in_the_paper(caption, special, image_first, key, length):
    """`<BOS><image>caption<EOC><EOS>`, cut where it is too long before the tokens that close it."""
    example = maker(special, length=length)(a_pair(caption, image_first=image_first), key=key)
    begin = [token for token in (special.bos,) if token is not None] + list(special.media_ids)
    end = [token for token in (special.end_of_chunk, special.eos) if token is not None]
    ids = list(example.input_ids)
    assert ids[: len(begin)] == begin
    assert ids[len(ids) - len(end) :] == end
    text = LETTERS.decode(ids[len(begin) : len(ids) - len(end)])
    told = caption.strip()
    room = length - len(begin) - len(end)
    assert text in {told[:room], f" {told}"[:room]}
    assert example.tags == (begin.index(special.media_ids[0]),)
    assert numbers_of(example.pixels) == [4]
    assert example.direction == "previous"
    labels = [-100] * len(begin) + ids[len(begin) :]
    assert list(example.labels) == labels


def test_half_of_the_captions_begin_with_a_space():
    """The space is drawn for each sample; 0 and 1 are never and always."""
    for chance in (0.0, 0.5, 1.0):
        make = maker(caption_space=chance)
        spaced = [make(a_pair("  a cat"), key=key).input_ids[2] == ord(" ") for key in range(100)]
        assert abs(sum(spaced) - 100 * chance) <= 5 * 5 * (chance == 0.5)


def test_the_text_is_changed_before_the_space():
    """An augmentation sees the caption; the space stands before what it makes of it."""
    make = maker(caption_space=1.0, augment_text=AugmentText(first_letter=1.0, full_stop=1.0))
    assert make(a_pair("A cat."), key=0).input_ids == (BOS, TAG, *map(ord, " a cat"), EOC, EOS)


def test_a_clip_is_a_pair_too():
    """The frames of a clip are one item."""
    pair = InterleavedDocument.from_parts([ClipSegment(data=(picture(1), picture(1))), "a cat"])
    assert maker()(pair, key=0).pixels[0].shape == (2, 3, 2, 2)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (["a cat"], "no_media"),
        ([picture(0), "a", picture(1)], "many_media"),
        ([picture(0)], "no_text"),
        ([picture(0), " \n "], "no_text"),
        ([picture(0), chr(200)], "special_token"),
        ([ImageSegment(url="a.jpg"), "a cat"], "media_missing"),
    ],
)
def test_what_is_no_pair_is_dropped(parts, reason):
    """One item and a caption make a pair; everything else is dropped for a reason that is declared."""
    make = maker(SpecialTokens(media=TAG, end_of_chunk=200))
    dropped = make(InterleavedDocument.from_parts(parts), key=0)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason
    assert reason in make.reasons


def test_features_are_taken_by_name():
    """Features that were computed before stand in place of pixels."""
    store = {"a.jpg": torch.ones(1, 4, 5)}
    pair = InterleavedDocument.from_parts([ImageSegment(url="a.jpg"), "a cat"])
    example = maker(preprocess=None, features=store, source="pairs")(pair, key=0)
    assert example.features[0] is store["a.jpg"]
    assert example.pixels is None
    assert example.source == "pairs"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(caption_space=-0.1), r"caption_space is -0\.1, wanted a chance"),
        (dict(special=WIDE, length=6), "length is 6, wanted 7 at least"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(options, message):
    """The maker is refused, and not each of its pairs."""
    with pytest.raises(ValueError, match=message):
        maker(**options)
