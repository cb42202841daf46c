"""Rows of OBELICS to documents and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.records import RecordError, from_obelics, to_obelics
from tests.document_strategies import documents_of_urls, metadata, same, texts, values

ROW = {
    "texts": [None, "a b", "c", None],
    "images": ["https://ex.com/1.jpg", None, None, "https://ex.com/2.jpg"],
    "metadata": json.dumps([
        {"document_url": "https://ex.com/", "src": "https://ex.com/1.jpg", "alt_text": "A cat", "original_width": 640},
        None, None, {"alt_text": None, "original_width": "640", "score": float("nan")},
    ]),
    "general_metadata": '{"url": "https://ex.com/", "warc_record_offset": 1234567890123}',
}  # fmt: skip


def plain(row):
    """A row whose JSON is read."""
    written = ("metadata", "general_metadata")
    return {k: json.loads(v) if k in written and isinstance(v, str) else v for k, v in row.items()}


def test_a_row_of_its_files_is_read_as_it_stands():
    """Texts side by side stay apart, `alt_text` is `alt`, and the rest of the metadata is kept as it is."""
    document = from_obelics(ROW)
    assert [type(segment) for segment in document.segments] == [ImageSegment, TextSegment, TextSegment, ImageSegment]
    assert document.media[0].alt == "A cat"
    assert document.media[0].metadata["original_width"] == 640
    assert document.media[1].metadata["original_width"] == "640"  # a number in quotation marks stays a text
    assert document.metadata == {"url": "https://ex.com/", "warc_record_offset": 1234567890123}
    assert same(plain(to_obelics(document)), plain(ROW))


@st.composite
def rows(draw):
    """Rows of OBELICS, with odd metadata, other columns, and columns that are missing or no JSON."""
    kinds = draw(st.lists(st.booleans(), max_size=5))
    row = {
        "texts": [draw(texts) if is_text else None for is_text in kinds],
        "images": [None if is_text else draw(texts) for is_text in kinds],
        **draw(st.dictionaries(st.sampled_from(["similarity", "id", "lang"]), values, max_size=2)),
    }
    about = st.none() | metadata | st.fixed_dictionaries({"alt_text": st.none() | texts | st.integers()})
    known = [draw(about | values) for _ in kinds]
    general = draw(metadata | st.just({"obelics": 1, "url": "u"}))
    for name, value in (("metadata", known), ("general_metadata", general)):
        way = draw(st.sampled_from(["json", "plain", "absent", "null"]))
        if way != "absent":
            row[name] = {"json": json.dumps(value), "plain": value, "null": None}[way]
    return row


@given(rows())
def test_reading_and_writing_a_row_gives_the_row(row):
    """Whatever stands in its metadata, whatever other columns it has, and however they are written."""
    assert same(plain(to_obelics(from_obelics(row))), plain(row))


@given(documents_of_urls)
def test_writing_and_reading_a_document_gives_the_document(document):
    """Of texts and image addresses."""
    assert from_obelics(to_obelics(document)) == document


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"images": None}, "field", "field images: is missing, wanted a list"),
        ({"texts": ["a"]}, "lists", "field images: has 4 places and texts 1"),
        ({"texts": [None, None, "c", None]}, "slot", "field texts[1]: has neither text nor image"),
        ({"texts": ["x", "a b", "c", None]}, "slot", "field texts[0]: has a text and an image, wanted one of them"),
        ({"texts": [None, 7, "c", None]}, "field", "field texts[1]: is 7 of type int, wanted a text"),
        ({"images": [7, None, None, "b"]}, "field", "field images[0]: is 7 of type int, wanted a text"),
        ({"metadata": "[null"}, "json", "field metadata: is no JSON"),
        ({"metadata": "[null]"}, "lists", "field metadata: has 1 places, texts 4"),
        ({"metadata": "{}"}, "field", "field metadata: is {} of type dict, wanted a list"),
        ({"general_metadata": "[]"}, "field", "field general_metadata: is [] of type list, wanted an object"),
    ],
)
def test_a_broken_row_is_told(change, reason, says):
    """The field is named, and what was found in it."""
    with pytest.raises(RecordError) as told:
        from_obelics({**ROW, **change})
    assert told.value.reason == reason
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("segment", "what"),
    [
        (ClipSegment(url="u"), "segment 1 is a clip"),
        (ImageSegment(), "segment 1 is an image without an address, or with data"),
        (ImageSegment(url="u", data=b"x"), "segment 1 is an image without an address, or with data"),
    ],
)
def test_what_a_row_cannot_hold_is_refused(segment, what):
    """In place of a row that says less than the document."""
    with pytest.raises(ValueError, match=what):
        to_obelics(InterleavedDocument.from_parts(["a", segment]))


def test_metadata_that_json_would_change_are_refused(without_shape_checks):
    """A key that is no text would come back as one."""
    with pytest.raises(ValueError, match="metadata has the key 1, wanted a text"):
        to_obelics(InterleavedDocument.from_parts(["a"], metadata={1: 2}))
    with pytest.raises(ValueError, match=r"metadata of segments\[0\].size is of type bytes"):
        to_obelics(InterleavedDocument.from_parts([ImageSegment(url="u", metadata={"size": b""})]))


@pytest.mark.parametrize(
    "form",
    ({"slots": 3}, {"slots": [3]}, {"slots": [["a", 1]]}, {"columns": {"texts": ["x"]}}, {"columns": 3}, 3),
)
def test_what_others_wrote_under_our_name_is_refused(form):
    """It is neither an error of ours nor put over the text."""
    document = InterleavedDocument.from_parts(["a"], metadata={"obelics": form})
    with pytest.raises(RecordError, match="obelics"):
        to_obelics(document)
