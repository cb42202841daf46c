"""Our own records, the errors of records, and JSON of strangers."""

import json
import pickle
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument
from flamingo_blocks.data.records import RecordError, from_members, read_sample, to_members
from flamingo_blocks.data.records.read_json import MAX_DEPTH, read_json
from tests.document_strategies import documents, same


@given(documents)
def test_any_document_of_files_survives(document):
    """Texts, addresses, bytes bit for bit, frames, `alt` and all metadata that JSON can hold."""
    members = to_members(document)
    assert from_members(members) == document
    assert read_sample("k", members) == document
    assert all(same(a.metadata, b.metadata) for a, b in zip(from_members(members).media, document.media, strict=True))


def test_members_are_named_by_their_place_and_what_they_are():
    """A clip of frames has a member for each; an item that is not fetched has none."""
    png = b"\x89PNG\r\n\x1a\n"
    parts = ["a", ImageSegment(data=png), ImageSegment(url="u"), ClipSegment(data=(png, b"\xff\xd8\xff")), b"?"]
    members = to_members(InterleavedDocument.from_parts(parts, metadata={"score": float("nan")}))
    assert list(members) == ["json", "1.png", "3.0.png", "3.1.jpg", "4.bin"]
    assert same(
        json.loads(members["json"]),
        {
            "flamingo_blocks": 1,
            "texts": ["a", None, None, None, None],
            "images": [None, {"member": "1.png"}, {"url": "u"}, None, {"member": "4.bin"}],
            "clips": [None, None, None, {"frames": ["3.0.png", "3.1.jpg"]}, None],
            "metadata": {"score": float("nan")},
        },
    )


@given(documents)
def test_json_is_the_same_each_time_and_one_line_of_utf8(document):
    """So that a shard has the same bytes each time."""
    written = to_members(document)["json"]
    assert written == to_members(document)["json"]
    assert "\n" not in written.decode()


RECORD = {"flamingo_blocks": 1, "texts": ["a", None], "images": [None, {"member": "1.jpg"}], "clips": [None, None]}


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"flamingo_blocks": 2}, "version", "field flamingo_blocks: is 2 of type int, wanted 1"),
        ({"clips": [None]}, "lists", "field clips: has 1 places, texts 2"),
        ({"clips": {}}, "field", "field clips: is {} of type dict, wanted a list"),
        ({"images": [None, None]}, "slot", "place 1 has nothing, wanted one of texts, images, clips"),
        ({"texts": ["a", "b"]}, "slot", "place 1 has texts and images, wanted one of"),
        ({"texts": [7, None]}, "field", "field texts[0]: is 7 of type int, wanted a text"),
        ({"images": [None, "1.jpg"]}, "field", "field images[1]: is '1.jpg' of type str, wanted an object"),
        ({"images": [None, {"member": "../1.jpg"}]}, "members", "field images[1].member: names '../1.jpg' of type str"),
        ({"images": [None, {"member": ["1.jpg"]}]}, "members", "field images[1].member: names ['1.jpg'] of type list"),
        ({"images": [None, {"frames": "x"}]}, "field", "field images[1].frames: is 'x' of type str, wanted a list"),
        ({"images": [None, {"url": 1}]}, "field", "field images[1].url: is 1 of type int, wanted a text"),
        ({"images": [None, {"metadata": 1}]}, "field", "field images[1].metadata: is 1 of type int, wanted an object"),
        ({"metadata": []}, "field", "field metadata: is [] of type list, wanted an object"),
    ],
)
def test_a_broken_record_is_told(change, reason, says):
    """By its key, the field, and what was found in it."""
    with pytest.raises(RecordError) as told:
        read_sample("k", {"json": json.dumps({**RECORD, **change}).encode(), "1.jpg": b""})
    assert told.value.reason == reason
    assert says in str(told.value)
    assert "record k" in str(told.value)


def test_members_without_json_are_none_of_ours():
    """And the members that are there are named."""
    with pytest.raises(RecordError, match=r"has the members 0\.jpg, wanted json"):
        from_members({"0.jpg": b""})


@pytest.mark.parametrize(
    ("part", "about", "says"),
    [
        (ImageSegment(data=7), {}, "data of segment 1 is of type int, wanted the bytes of a file"),
        (ClipSegment(data=(b"", "x")), {}, r"data of segment 1\.1 is of type str"),
        (ImageSegment(metadata={"a": [0, {"b": {1}}]}), {}, r"metadata of segment 1\.a\[1\]\.b is of type set"),
        ("b", {"a": {2: 3}}, r"metadata\.a has the key 2, wanted a text"),
    ],
)
def test_what_json_cannot_hold_is_refused(part, about, says):
    """By its place in the document, before anything is written."""
    with pytest.raises(ValueError, match=says):
        to_members(InterleavedDocument.from_parts(["a", part], metadata=about))


def nested(depth):
    return "[" * depth + "]" * depth


def test_json_that_is_nested_too_deep_is_refused_before_it_is_read():
    """Brackets in texts are none; at the bound it is read."""
    assert read_json(nested(MAX_DEPTH)) is not None
    assert read_json(json.dumps(["[" * 500 + '\\"[{' * 500])) == ["[" * 500 + '\\"[{' * 500]
    assert len(read_json("[" + ",".join("[]" for _ in range(500)) + "]")) == 500
    for depth in (MAX_DEPTH + 1, 1_000_000):
        with pytest.raises(RecordError, match=f"field f: is nested {depth} deep, wanted 64") as told:
            read_json(nested(depth), field="f")
        assert told.value.reason == "json_depth"


def test_metadata_are_written_only_as_deep_as_they_are_read_again():
    """A document that could not be read is refused by the writer."""
    deep = {"a": json.loads(nested(40))}
    document = InterleavedDocument.from_parts([ImageSegment(url="u", metadata=deep)], metadata=deep)
    assert from_members(to_members(document)) == document
    with pytest.raises(ValueError, match=r"metadata\.a\[0\].* is nested over 56 deep"):
        to_members(InterleavedDocument((), {"a": json.loads(nested(58))}))


def test_json_beyond_its_size_is_refused(monkeypatch):
    """Before it is read."""
    monkeypatch.setattr("flamingo_blocks.data.records.read_json.MAX_BYTES", 10)
    with pytest.raises(RecordError, match="has 11 bytes of JSON, wanted 10 at most"):
        read_json('"123456789"')


@given(st.text(st.sampled_from('[]{}",:\\1eE-.NaItrufls \n\ud800'), max_size=40) | st.binary(max_size=20))
def test_any_bytes_are_json_or_an_error(data):
    """No other exception leaves the reader."""
    with suppress(RecordError):
        read_json(data)


def test_a_number_of_very_many_digits_is_an_error():
    """Python refuses to read it."""
    with pytest.raises(RecordError, match="is no JSON"):
        read_json("1" * 5000)


def test_an_error_takes_on_its_place_and_can_be_counted():
    """What is named first stays; fields go inside of fields; it survives being sent between processes."""
    error = RecordError("is 1", reason="slot", field="url").at(record=3, field="images[0]").at(file="a", record=4)
    assert str(error) == "a, record 3, field images[0].url: is 1"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.reason) == (str(error), "slot")
    assert (error.dropped().reason, error.dropped().detail) == ("slot", str(error))
    assert isinstance(error, ValueError)
