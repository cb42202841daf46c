"""Documents become token ids in the paper's layout, and documents again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import (
    ClipSegment,
    ImageSegment,
    InterleavedDocument,
    SpecialTokens,
    TextSegment,
    detokenize_document,
    document_labels,
    tokenize_document,
)


class Letters:
    """One id a letter: its code point, up to 255."""

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        assert len(ids) > 0, "nothing to decode"
        assert all(0 <= token < 256 for token in ids), f"{ids} are no letters"
        return "".join(chr(token) for token in ids)


LETTERS = Letters()
BOS, EOS, EOC, TAG = 256, 257, 258, 259
PAPER = SpecialTokens(media=TAG, end_of_chunk=EOC, bos=BOS, eos=EOS)
NAMES = {BOS: "<BOS>", EOS: "<EOS>", EOC: "<EOC>", TAG: "<image>"}

letters = st.text(st.characters(max_codepoint=255), max_size=5)
images = st.builds(ImageSegment, url=st.text(max_size=2), alt=st.none() | letters)
clips = st.builds(ClipSegment, url=st.text(max_size=2))
segment_lists = st.lists(st.one_of(st.builds(TextSegment, letters), images, clips), max_size=7).map(tuple)
# Arguments, not the class: while tests run its annotations are checked, which draws random numbers.
specials = st.fixed_dictionaries(
    {
        "media": st.sampled_from([TAG, (60, 105, 62), (97, 97), (TAG, 97)]),
        "end_of_chunk": st.sampled_from([None, EOC]),
        "bos": st.sampled_from([None, BOS]),
        "eos": st.sampled_from([None, EOS]),
    }
)
options = st.fixed_dictionaries(
    dict.fromkeys(("end_before_media", "end_before_first_media", "end_of_document"), st.booleans())
)


def written(document, special=PAPER, **further):
    """The token ids as one string."""
    ids = tokenize_document(document, tokenizer=LETTERS, special=special, **further).ids
    return "".join(NAMES[token] if token in NAMES else chr(token) for token in ids)


def tagged(text, **further):
    return InterleavedDocument.from_tagged(text, [b"..."] * text.count("<image>"), **further)


@given(segment_lists, specials, options)
def test_a_document_is_read_back_from_its_tokens(segments, ids, further):
    """Document -> tokens -> document is the identity on merged documents, whatever the layout (law 18)."""
    document, special = InterleavedDocument(segments), SpecialTokens(**ids)
    tokenized = tokenize_document(document, tokenizer=LETTERS, special=special, **further)
    assert detokenize_document(tokenized, tokenizer=LETTERS, special=special) == document.merged()


@given(segment_lists, specials, options)
def test_every_tag_is_at_the_position_of_its_item(segments, ids, further):
    """Tag k begins where item k of the document belongs: after the text that stands before that item."""
    document, special = InterleavedDocument(segments), SpecialTokens(**ids)
    tokenized = tokenize_document(document, tokenizer=LETTERS, special=special, **further)
    assert tokenized.media == document.media
    assert len(tokenized.tags) == len(document.media)
    places = [place for place, segment in enumerate(document.segments) if not isinstance(segment, TextSegment)]
    for item, (tag, place) in enumerate(zip(tokenized.tags, places, strict=True)):
        assert tokenized.ids[tag : tag + len(special.media_ids)] == special.media_ids
        before = InterleavedDocument(document.segments[:place]).text
        text_ids = tag - item * len(special.media_ids) - sum(at < tag for at in tokenized.inserted)
        assert text_ids == len(before)


@given(st.lists(st.sampled_from(["a", "||", "b||", b"..."]), max_size=7))
def test_text_may_say_the_end_of_chunk_itself(parts):
    """A string for `<EOC>` in text becomes its id, and comes back as that string."""
    special = SpecialTokens(media=TAG, end_of_chunk=EOC, end_of_chunk_text="||")
    document = InterleavedDocument.from_parts(parts)
    tokenized = tokenize_document(document, tokenizer=LETTERS, special=special)
    assert ord("|") not in tokenized.ids
    assert detokenize_document(tokenized, tokenizer=LETTERS, special=special) == document.merged()


@pytest.mark.parametrize(
    ("text", "further", "expected"),
    [
        ("pets!<image>puppy.<image> cat.", {}, "<BOS>pets!<EOC><image>puppy.<EOC><image> cat.<EOC><EOS>"),
        ("<image>caption", {}, "<BOS><image>caption<EOC><EOS>"),
        ("<image><image>x", {}, "<BOS><image><EOC><image>x<EOC><EOS>"),
        ("x<image>", {}, "<BOS>x<EOC><image><EOC><EOS>"),
        ("text alone", {}, "<BOS>text alone<EOC><EOS>"),
        ("", {}, "<BOS><EOS>"),
        ("a<image>b", {"end_of_document": False}, "<BOS>a<EOC><image>b"),
        ("a<image>b<image>c", {"end_before_first_media": False}, "<BOS>a<image>b<EOC><image>c<EOC><EOS>"),
        ("a<image>b<image>c", {"end_before_media": False}, "<BOS>a<image>b<image>c<EOC><EOS>"),
    ],
)
def test_the_layout_is_the_paper_s(text, further, expected):
    """`<EOC>` stands before every tag that something precedes, and at the end; options take it away by name."""
    assert written(tagged(text), **further) == expected


def test_an_end_that_the_text_says_is_not_said_again():
    """Prompts that hold `<EOC>` as a string get no second one, also when a space follows it."""
    special = SpecialTokens(media=TAG, end_of_chunk=EOC, bos=BOS, eos=EOS, end_of_chunk_text="<EOC>")
    document = tagged("<image> a<EOC> <image> b<EOC>")
    assert written(document, special) == "<BOS><image> a<EOC> <image> b<EOC><EOS>"


@pytest.mark.parametrize(
    ("special", "name"),
    [
        (SpecialTokens(media=97), "media"),
        (SpecialTokens(media=TAG, end_of_chunk=97), "end_of_chunk"),
        (SpecialTokens(media=TAG, bos=97), "bos"),
        (SpecialTokens(media=TAG, eos=97), "eos"),
    ],
)
def test_text_that_encodes_to_a_special_id_is_refused(special, name):
    """A document whose text would pass for a tag, a begin or an end is an error that names text and token."""
    with pytest.raises(ValueError, match=f"text 'bab' encodes to the id 97, which is special.{name}"):
        tokenize_document(tagged("bab"), tokenizer=LETTERS, special=special)


def test_an_end_of_chunk_string_needs_an_id():
    """A text that says `<EOC>` without an id for it is an error."""
    with pytest.raises(ValueError, match="special.end_of_chunk is None"):
        tokenize_document(
            tagged("a<EOC>"), tokenizer=LETTERS, special=SpecialTokens(media=TAG, end_of_chunk_text="<EOC>")
        )


@pytest.mark.parametrize(
    ("further", "expected"),
    [
        ({}, ["_", "p", "!", "<EOC>", "_", "c", "<EOC>", "d", "_", "<EOC>", "<EOS>"]),
        ({"mask_between_chunks": True}, ["_", "p", "!", "<EOC>", "_", "c", "<EOC>", "_", "_", "<EOC>", "_"]),
        ({"mask_before_first_media": True}, ["_", "_", "_", "_", "_", "c", "<EOC>", "d", "_", "<EOC>", "<EOS>"]),
    ],
)
def test_labels_leave_out_what_is_never_predicted(further, expected):
    """Tags and the begin have no label; text between chunks and before the first tag has none when asked."""
    special = SpecialTokens(media=TAG, end_of_chunk=EOC, bos=BOS, eos=EOS, end_of_chunk_text="|")
    tokenized = tokenize_document(tagged("p!<image>c|d<image>"), tokenizer=LETTERS, special=special)
    labels = document_labels(tokenized, special=special, **further)
    assert [NAMES.get(label) or ("_" if label == -100 else chr(label)) for label in labels] == expected


def test_a_tag_of_several_tokens_has_no_label_at_all():
    """The paper's `<image>` is plain text; none of its tokens is predicted, and only the tag's own are left out."""
    special = SpecialTokens(media=(60, 61, 62))
    tokenized = tokenize_document(tagged("<<image>="), tokenizer=LETTERS, special=special)
    assert document_labels(tokenized, special=special) == (60, -100, -100, -100, 61)
