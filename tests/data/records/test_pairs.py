"""Pairs of img2dataset and WebVid to documents and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.records import RecordError, from_pair, media_suffix, read_sample, to_pair
from tests.document_strategies import files, metadata, same, texts, urls

IMG2DATASET = {
    "url": "https://ex.com/1.jpg", "caption": "A cat.", "key": "000010005", "status": "success", "error_message": None,
    "width": 640, "height": 480, "exif": "{}", "sha256": "00", "similarity": float("nan"),
}  # fmt: skip


def test_a_pair_of_img2dataset_is_read_as_image_and_text():
    """Everything in its `json` is kept, NaN too; the address is that of the image."""
    members = {"jpg": b"\xff\xd8\xff", "json": json.dumps(IMG2DATASET).encode(), "txt": "Eine Kätz".encode()}
    document = read_sample("000010005", members)
    assert document.segments == (
        ImageSegment(url="https://ex.com/1.jpg", data=b"\xff\xd8\xff"),
        TextSegment("Eine Kätz"),
    )
    assert same({"url": document.media[0].url, **document.metadata}, IMG2DATASET)
    assert same(json.loads(to_pair(document)["json"]), IMG2DATASET)


def test_a_pair_of_webvid_is_read_as_clip_and_text():
    """By the ending of its member."""
    document = read_sample("k", {"mp4": b"....ftypisom", "txt": b"A wave.", "json": b'{"videoid": "1"}'})
    assert document.segments == (ClipSegment(data=b"....ftypisom"), TextSegment("A wave."))
    assert document.metadata == {"videoid": "1"}


suffixes = st.sampled_from(["jpg", "jpeg", "png", "webp", "mp4", "webm"])
abouts = metadata | st.builds(lambda about, url: {**about, "url": url}, metadata, st.none() | urls | st.integers())


@given(suffixes, files, st.none() | texts, st.none() | abouts)
def test_reading_and_writing_a_pair_gives_its_members(suffix, data, text, about):
    """Bit for bit, and of `json` what it says; one that says nothing is not written."""
    members = {suffix: data}
    if text is not None:
        members["txt"] = text.encode()
    if about is not None:
        members["json"] = json.dumps(about).encode()
    written = to_pair(from_pair(members))
    assert same(json.loads(written.pop("json", b"{}")), about or {})
    members.pop("json", None)
    assert written == members


known = files.filter(lambda data: media_suffix(data) != "bin")


@given(known, st.none() | urls, st.none() | texts, metadata)
def test_writing_and_reading_a_pair_gives_the_document(data, url, text, about):
    """Of an image or a clip with its address, its text, and what is known."""
    item = (ClipSegment if media_suffix(data) == "mp4" else ImageSegment)(url=url, data=data)
    document = InterleavedDocument((item,) if text is None else (item, TextSegment(text)), about)
    assert from_pair(to_pair(document)) == document


@pytest.mark.parametrize(
    ("members", "reason", "says"),
    [
        ({"txt": b"a"}, "members", "record k: has the members txt, wanted json, or an image or a clip"),
        ({"jpg": b"", "png": b""}, "members", "record k: has the members jpg, png, wanted one image or clip"),
        ({"jpg": b"", "txt": b"\xff"}, "text", "record k, field txt: is no UTF-8"),
        ({"jpg": b"", "json": b"[1]"}, "field", "record k, field json: is [1] of type list, wanted an object"),
        ({"jpg": b"", "json": b"{"}, "json", "record k, field json: is no JSON"),
        ({"json": b'{"a": 1}'}, "field", "record k: has the fields a, wanted texts and images, or text_list"),
    ],
)
def test_a_broken_pair_is_told(members, reason, says):
    """By its key, the member, and what was found."""
    with pytest.raises(RecordError) as told:
        read_sample("k", members)
    assert told.value.reason == reason
    assert says in str(told.value)


image = ImageSegment(data=b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("parts", "about", "says"),
    [
        ([], {}, "document has no segments, wanted an image or a clip"),
        (["a", image], {}, "document has TextSegment, ImageSegment, wanted"),
        ([image, "a", "b"], {}, "wanted an image or a clip, then at most one text"),
        ([ImageSegment(url="u"), "a"], {}, "data of the item is of type NoneType, wanted the bytes"),
        ([ImageSegment(data=b"\xff\xd8\xff", alt="x")], {}, "the item has alt, which a pair has no place for"),
        ([ImageSegment(data=b"\xff\xd8\xff", metadata={"x": 1})], {}, r"the item has metadata \['x'\]"),
        ([ImageSegment(data=b"?")], {}, "the item has bytes that begin like nothing known, wanted one of avif, bmp"),
        ([ClipSegment(data=b"\xff\xd8\xff")], {}, "the item has the ending 'jpg', wanted one of 3gp, avi"),
        ([ImageSegment(data=b"\xff\xd8\xff", url="u")], {"url": "v"}, "document and item both have an address"),
        ([image, "\ud800"], {}, "text cannot be written as UTF-8"),
        ([image], {"a": object()}, "metadata.a is of type object"),
    ],
)
def test_what_a_pair_cannot_hold_is_refused(parts, about, says):
    """In place of a pair that says less than the document."""
    with pytest.raises(ValueError, match=says):
        to_pair(InterleavedDocument.from_parts(parts, metadata=about))


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (b"\xff\xd8\xff\xe0", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"GIF89a", "gif"), (b"BM", "bmp"), (b"II*\0", "tiff"), (b"\0\0\0\x20ftypisom", "mp4"),
        (b"\0\0\0\x20ftypavif", "avif"), (b"\0\0\0\x14ftypqt  ", "mov"), (b"\x1a\x45\xdf\xa3....webm", "webm"),
        (b"\x1a\x45\xdf\xa3....matroska", "mkv"), (b"RIFF\0\0\0\0AVI LIST", "avi"), (b"RIFF\0\0\0\0WAVE", "bin"),
        (b"", "bin"), (b"<html>", "bin"),
    ],
)  # fmt: skip
def test_bytes_tell_their_ending(data, suffix):
    """By how they begin."""
    assert media_suffix(data) == suffix


def test_endings_are_what_real_encoders_write():
    """Of pillow, as files of the web have them."""
    import io

    from PIL import Image

    for name, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tiff")):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(file, name)
        assert media_suffix(file.getvalue()) == suffix
